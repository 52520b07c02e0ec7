"""What the engine side needs of the router: the facts it may report. The core's ``Router`` is one."""

from __future__ import annotations

from typing import Protocol

from router.core.index.batch import KvBatch
from router.core.index.prefix_index import Applied
from router.core.types import Health, IndexState, LoadReport, ReplicaSpec


class RouterPort(Protocol):
    """Facts about replicas, each with the time (seconds, the shell's clock) at which it was learned."""

    def on_replica(self, spec: ReplicaSpec, now: float) -> object: ...

    def on_replica_gone(self, name: str, now: float) -> object: ...

    def on_health(self, name: str, health: Health, now: float) -> object: ...

    def on_load(self, name: str, report: LoadReport, now: float) -> object: ...

    def on_kv_events(self, name: str, batch: KvBatch, now: float) -> Applied: ...

    def on_index_state(self, name: str, state: IndexState, now: float) -> object: ...

    def on_index_reset(self, name: str, now: float) -> object: ...
