"""Prefill/decode disaggregation: whether a prompt is computed elsewhere, where, and what came of it."""
