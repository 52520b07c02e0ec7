"""KV transfer: what engines are sent so that one replica computes a prompt and another one answers."""
