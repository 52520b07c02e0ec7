"""Recorded traces, read as programs."""

from sim.workloads.traces.lines import Trace
from sim.workloads.traces.load import load_trace, trace_formats

__all__ = ["Trace", "load_trace", "trace_formats"]
