"""Traces by format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sim.workloads.traces.agentic_mooncake import load_agentic_mooncake
from sim.workloads.traces.dag_jsonl import load_dag_jsonl
from sim.workloads.traces.lines import Trace
from sim.workloads.traces.mooncake import load_mooncake
from sim.workloads.traces.text import load_text
from sim.workloads.traces.weka import load_weka

_LOADERS: dict[str, Callable[[Path, int], Trace]] = {
    "mooncake": load_mooncake,
    "weka": load_weka,
    "text": load_text,
    "agentic_mooncake": load_agentic_mooncake,
    "dag_jsonl": load_dag_jsonl,
}


def trace_formats() -> list[str]:
    return list(_LOADERS)


def load_trace(path: str | Path, trace_format: str, seed: int = 0) -> Trace:
    """Read a trace file, plain or gzipped. Lines that make no sense are counted in ``Trace.skipped``.

    Raises ValueError when the format is unknown, the file cannot be read or nothing in it can be used.
    """
    loader = _LOADERS.get(trace_format)
    if loader is None:
        raise ValueError(f"no trace format {trace_format!r}: give one of {', '.join(_LOADERS)}")
    trace = loader(Path(path), seed)
    if not trace.programs:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in trace.skipped.most_common(3)) or "it is empty"
        raise ValueError(f"nothing in {path} can be read as {trace_format}: {reasons}")
    return trace
