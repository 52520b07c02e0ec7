"""The results as a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from load.measure import Report, spread

_Cell = Callable[[Report, Report | None], str]


def table(results: Mapping[str, Report]) -> str:
    """One row per target, in the order given; ``direct`` is what latencies are compared with."""
    direct = results.get("direct")
    rows = [[name, *(cell(report, direct) for cell in _COLUMNS.values())] for name, report in results.items()]
    head = ["target", *_COLUMNS]
    lines = [head, ["---", *("--:" for _ in _COLUMNS)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rate(test: str, *path: str) -> _Cell:
    """Median, and how far the repetitions lie from it."""

    def cell(report: Report, _: Report | None) -> str:
        if test not in report["tests"]:
            return ""
        median, lowest, highest = spread(report["tests"][test], *path)
        if not median:
            return "-"
        apart = max(median - lowest, highest - median) / median
        return f"{median:,.{0 if median >= 100 else 1}f}" + (f" ±{apart:.0%}" if highest > lowest else "")

    return cell


def _added_latency(test: str) -> _Cell:
    """p50 / p99 in microseconds over direct; in brackets, where there is no direct to compare with, as measured."""

    def cell(report: Report, direct: Report | None) -> str:
        if test not in report["tests"]:
            return ""
        latency = report["tests"][test]["median"]["latency_us"]
        if report is direct or direct is None or test not in direct["tests"]:
            return f"({latency['p50']:,.0f} / {latency['p99']:,.0f})"
        base = direct["tests"][test]["median"]["latency_us"]
        return f"{latency['p50'] - base['p50']:,.0f} / {latency['p99'] - base['p99']:,.0f}"

    return cell


def _memory(report: Report, _: Report | None) -> str:
    return f"{report['memory_idle_mb']:.0f} -> {report['memory_end_mb']:.0f}" if report["memory_end_mb"] else "-"


def _affinity(report: Report, _: Report | None) -> str:
    return f"{report['affinity']:.0%}"


def _foreign(report: Report, _: Report | None) -> str:
    runs = [run for test in report["tests"].values() for run in test["runs"]]
    return " / ".join(f"{max(run[key] for run in runs):.0%}" for key in ("foreign_router_core", "foreign_load_core"))


_COLUMNS: dict[str, _Cell] = {
    "requests/s, 1 KiB c64": _rate("1k c64", "requests_per_s"),
    "requests/s, 32 KiB c64": _rate("32k c64", "requests_per_s"),
    "CPU µs/request, 1 KiB": _rate("1k c64", "cpu_us_per_request"),
    "CPU µs/request, 32 KiB": _rate("32k c64", "cpu_us_per_request"),
    "added p50 / p99 µs, c1": _added_latency("1k c1"),
    "c8": _added_latency("1k c8"),
    "c64": _added_latency("1k c64"),
    "500 requests/s": _added_latency("1k 500/s"),
    "chunks/s": _rate("sse c64", "chunks_per_s"),
    "CPU µs/chunk at 10 ms": _rate("sse c64 10ms", "cpu_us_per_chunk"),
    "memory MB, idle -> end": _memory,
    "same replica again": _affinity,
    "foreign CPU, router / load core": _foreign,
}
