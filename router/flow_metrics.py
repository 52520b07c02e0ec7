"""What Weft tells Prometheus of the programs that an admission lets in and holds."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from router.core.waiting_room import WaitingRoom
from router.families import gauge


def flow_metrics(room: WaitingRoom) -> Iterator[Metric]:
    """Nothing where there is no admission. Who is held has no replica yet."""
    if room.admission is None:
        return
    held = room.held
    yield GaugeMetricFamily("weft_admission_held_requests", "Requests that the admission holds", len(held))
    yield GaugeMetricFamily("weft_admission_held_programs", "Programs of which requests are held", held.programs)
    replicas = room.admission.on_replicas()
    yield gauge("weft_admission_programs", "Programs let in", ((each.replica, each.programs) for each in replicas))
    yield gauge(
        "weft_admission_resting", "Contexts between two calls", ((each.replica, each.resting) for each in replicas)
    )
    wanted = ((each.replica, each.wanted_tokens) for each in replicas)
    yield gauge("weft_admission_wanted_tokens", "KV memory that programs let in take up, as counted", wanted)
