"""What Weft tells Prometheus of the programs that it follows."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from router.core.programs.lineage import Lineage
from router.core.programs.table import ProgramTable
from router.core.programs.tracker import Programs
from router.families import by, counter, histogram, histograms


def program_metrics(programs: Programs) -> Iterator[Metric]:
    """Nothing here grows with the number of programs, of tenants that come, or, beyond 32, of classes."""
    yield from _table(programs.table)
    tokens = programs.tenant_tokens
    yield by("weft_tenant_computed_tokens", "Prompt and answer tokens that replicas computed", "tenant", tokens)
    if programs.lineage is not None:
        yield from _lineage(programs.lineage)


def _table(table: ProgramTable) -> Iterator[Metric]:
    stats, tally = table.stats, table.tally
    yield GaugeMetricFamily("weft_programs", "Programs that are known", len(table))
    yield GaugeMetricFamily("weft_programs_memory_bytes", "Memory of programs' graphs, estimated", table.bytes)
    events = {
        "created": stats.created,
        "finished": stats.finished,
        "expired": stats.expired,
        "evicted": stats.evicted,
    }
    yield by(
        "weft_program_events", "Programs that came, ended, were forgotten or made room for others", "event", events
    )
    yield counter("weft_program_steps_dropped", "Steps of long programs that made room", stats.dropped_steps)
    yield counter("weft_program_hints", "Statements of clients on graphs, in programs that are gone", stats.told)
    yield counter("weft_program_hints_contradicted", "... that turned out to be wrong", stats.contradicted)
    yield counter(
        "weft_program_recomputed_tokens",
        "Prompt tokens computed although their program had sent them before",
        stats.recomputed_tokens,
    )
    yield histograms(
        "weft_program_completion_seconds", "First call to last answer of programs", "class", tally.completion_s
    )
    yield histogram("weft_program_wait_seconds", "Waits of all calls of a program in the router", tally.waited_s)
    yield histogram(
        "weft_program_expected_ratio",
        "Time expected at a program's first call, over the time that it took",
        tally.expected_ratio,
    )


def _lineage(lineage: Lineage) -> Iterator[Metric]:
    stats = lineage.stats
    found = {str(relation): count for relation, count in stats.found.items()}
    yield by("weft_lineage_prompts", "Prompts of unnamed calls by what they are to earlier ones", "relation", found)
    yield GaugeMetricFamily("weft_lineage_programs", "Programs that were inferred from prompts", len(lineage))
    yield GaugeMetricFamily("weft_lineage_memory_bytes", "Memory of their marks, estimated", lineage.bytes)
    gone = {"expired": stats.expired, "evicted": stats.evicted}
    yield by("weft_lineage_events", "Inferred programs that were idle, or made room for others", "event", gone)
    yield counter("weft_lineage_unmarked", "Prompts that programs had too many of to remember", stats.unmarked)
