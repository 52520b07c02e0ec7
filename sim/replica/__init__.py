"""vLLM-like replicas over real HTTP and ZMQ, with the engine model behind them."""
