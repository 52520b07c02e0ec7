"""Passes what the engine side learns to the Router, and tells those who wait for it."""

from __future__ import annotations

from collections.abc import Callable

from router.core.index.batch import KvBatch
from router.core.index.prefix_index import Applied
from router.core.types import Health, IndexState, LoadReport, ReplicaSpec
from router.engine.ports import RouterPort


class Feed:
    """The engine side's `RouterPort`. ``changed`` is called after each fact, ``down`` with who cannot serve now,
    ``reported`` with what a replica says of its load."""

    def __init__(
        self,
        router: RouterPort,
        changed: Callable[[], None],
        down: Callable[[str], None],
        reported: Callable[[str, LoadReport], None] = lambda *_: None,
    ) -> None:
        self._router = router
        self._changed = changed
        self._down = down
        self._reported = reported

    def on_replica(self, spec: ReplicaSpec, now: float) -> None:
        self._router.on_replica(spec, now)
        self._changed()

    def on_replica_gone(self, name: str, now: float) -> None:
        self._router.on_replica_gone(name, now)
        self._down(name)
        self._changed()

    def on_health(self, name: str, health: Health, now: float) -> None:
        self._router.on_health(name, health, now)
        if health is not Health.HEALTHY:
            self._down(name)
        self._changed()

    def on_load(self, name: str, report: LoadReport, now: float) -> None:
        self._router.on_load(name, report, now)
        self._reported(name, report)
        self._changed()

    def on_kv_events(self, name: str, batch: KvBatch, now: float) -> Applied:
        applied = self._router.on_kv_events(name, batch, now)
        self._changed()
        return applied

    def on_index_state(self, name: str, state: IndexState, now: float) -> None:
        self._router.on_index_state(name, state, now)
        self._changed()

    def on_index_reset(self, name: str, now: float) -> None:
        self._router.on_index_reset(name, now)
        self._changed()
