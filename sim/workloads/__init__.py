"""Workloads for the simulator: programs as graphs of LLM calls and tool waits."""
