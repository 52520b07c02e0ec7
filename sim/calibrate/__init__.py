"""Fitting an engine profile to a live vLLM replica."""
