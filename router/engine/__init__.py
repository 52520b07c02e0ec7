"""The engine side: speaks to vLLM servers and tells the router what it learns of them."""
