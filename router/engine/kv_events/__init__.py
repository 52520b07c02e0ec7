"""KV cache events: which blocks a replica holds, as it says itself."""
