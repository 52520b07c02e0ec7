"""How simulated replicas hand keys and values over to each other, as vLLM's connectors do."""
