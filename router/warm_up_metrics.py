"""What Weft tells Prometheus of warm-ups: what they cost, and what they gained."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from flow.warm_ups.warm_ups import WarmUps
from router.families import by, counter


def warm_up_metrics(warm_ups: WarmUps) -> Iterator[Metric]:
    stats, kept = warm_ups.stats, warm_ups.kept
    yield counter("weft_warm_ups_sent", "Prompts sent again to be cached when their program comes back", stats.sent)
    results = {str(result): count for result, count in stats.results.items()}
    yield by("weft_warm_ups_settled", "Warm-ups by what their program's next call made of them", "result", results)
    yield counter("weft_warm_ups_cut_short", "Warm-ups that made way for others, or were late", stats.cut_short)
    yield counter(
        "weft_warm_up_computed_tokens", "Prompt tokens computed for warm-ups: their cost", stats.computed_tokens
    )
    yield counter(
        "weft_warm_up_gained_tokens",
        "Prompt tokens that next calls found cached where no replica held them before: their gain",
        stats.gained_tokens,
    )
    yield GaugeMetricFamily("weft_warm_up_calls_kept", "Calls kept to be sent again", len(kept))
    yield GaugeMetricFamily("weft_warm_up_kept_bytes", "Memory of these: bodies, token ids, hashes", kept.bytes)
    yield counter("weft_warm_up_calls_dropped", "Calls that others left no room to keep", stats.dropped)
