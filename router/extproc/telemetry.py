"""What Weft tells Prometheus of its ext-proc server."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from router.extproc.stats import ExtProcStats
from router.families import by, counter, histogram


def extproc_metrics(stats: ExtProcStats, outstanding: int) -> Iterator[Metric]:
    """``outstanding``: requests that were sent to a replica and whose end is awaited."""
    yield counter("weft_extproc_streams", "Streams of gateways, one for each request", stats.streams)
    yield GaugeMetricFamily("weft_extproc_streams_open", "Streams under way", stats.streams_open)
    yield counter("weft_extproc_requests_sent", "Requests that were told where to go", stats.sent)
    refused = {str(status): count for status, count in stats.refused.items()}
    yield by("weft_extproc_refusals", "Requests answered at once, by status", "status", refused)
    yield counter("weft_extproc_gone", "Requests that left before they were sent anywhere", stats.gone)
    yield by("weft_extproc_malformed", "Streams ended for what they said", "service", stats.malformed)
    yield counter("weft_extproc_internal_errors", "Requests lost to an unexpected error", stats.internal_errors)
    yield GaugeMetricFamily("weft_extproc_outstanding", "Requests whose end is awaited", outstanding)
    yield GaugeMetricFamily("weft_extproc_access_logs", "Access logs that are received", stats.logs_open)
    yield by("weft_extproc_ends", "Ends that the access log told, by outcome", "outcome", stats.logged)
    statuses = {str(status): count for status, count in stats.statuses.items()}
    yield by("weft_extproc_answers", "Answers in the access log, by status", "status", statuses)
    yield counter("weft_extproc_unmatched_log_entries", "Log entries of requests not awaited", stats.unmatched)
    yield counter(
        "weft_extproc_presumed_over", "Requests over because their replica has fewer than sent", stats.presumed_over
    )
    yield counter(
        "weft_extproc_served_elsewhere", "Requests served by another endpoint than chosen", stats.served_elsewhere
    )
    yield counter("weft_extproc_priorities_refused", "Replicas found to take no priorities", stats.priorities_refused)
    yield counter("weft_extproc_request_bytes", "Bytes of bodies, as logged", stats.request_bytes)
    yield counter("weft_extproc_response_bytes", "Bytes of answers, as logged", stats.response_bytes)
    yield histogram("weft_extproc_head_seconds", "First byte of request to first of answer, as logged", stats.head_s)
    yield histogram("weft_extproc_duration_seconds", "First byte of request to last of answer", stats.duration_s)
