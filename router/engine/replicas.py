"""The replicas of one server as the router knows them, and their KV events.

A replica counts as reporting events from the moment they are heard. Until then, and where a firewall keeps them away,
the router goes by what it sent there itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import zmq

from router.core.types import Health, IndexState, ReplicaSpec
from router.engine.context import EngineContext
from router.engine.identity import Rank
from router.engine.kv_events.endpoints import EventSource
from router.engine.kv_events.sequence import SequenceSettings
from router.engine.kv_events.subscriber import KvSubscriber


class Replicas:
    """``on_restart`` is called when the events tell of another process than before."""

    def __init__(
        self, context: EngineContext, on_restart: Callable[[], None], settings: SequenceSettings | None = None
    ) -> None:
        self.specs: dict[str, ReplicaSpec] = {}
        """What the router was told, by name."""
        self.subscribers: dict[str, KvSubscriber] = {}
        self._health: dict[str, Health] = {}
        self._context = context
        self._on_restart = on_restart
        self._settings = settings

    def put(self, spec: ReplicaSpec) -> None:
        """Tells the router unless it knows. Raises FleetFullError."""
        if self.specs.get(spec.name) != spec:
            self._context.router.on_replica(spec, self._context.clock())
            self.specs[spec.name] = spec

    def adopt(self, ranks: tuple[Rank, ...]) -> None:
        """Makes these, and no others, the server's replicas. Raises FleetFullError."""
        self.keep_only(rank.spec.name for rank in ranks)
        for rank in ranks:
            name = rank.spec.name
            running = self.subscribers.get(name)
            if running is not None and not _goes_on(running, rank):
                self._unsubscribe(name)
                running = None
            self.put(replace(rank.spec, reports_events=running is not None and running.heard))
            if rank.events is not None and running is None:
                self._subscribe(name, rank.events, rank.spec.base_model)

    def set_health(self, health: Health) -> None:
        for name in self.specs:
            if self._health.get(name) is not health:
                self._health[name] = health
                self._context.router.on_health(name, health, self._context.clock())

    def forget_own_history(self) -> None:
        """The server's caches are empty. Replicas that report events say so themselves."""
        for spec in self.specs.values():
            if not spec.reports_events:
                self._context.router.on_index_reset(spec.name, self._context.clock())

    def keep_only(self, names: Iterable[str]) -> None:
        """Takes all others out of the router."""
        for name in self.specs.keys() - set(names):
            self._unsubscribe(name)
            self._context.router.on_replica_gone(name, self._context.clock())
            self._context.troubles.forget(name)
            self._health.pop(name, None)
            del self.specs[name]

    def _subscribe(self, name: str, source: EventSource, model: str) -> None:
        def heard() -> None:
            self._context.router.on_index_reset(name, self._context.clock())
            self.put(replace(self.specs[name], reports_events=True))

        subscriber = KvSubscriber(name, model, source, self._context, heard, self._on_restart, self._settings)
        try:
            subscriber.start()
        except zmq.ZMQError as error:
            subscriber.close()
            self._context.troubles.note("events_unheard", name, f"cannot connect to {source.endpoint}: {error}")
        else:
            self.subscribers[name] = subscriber

    def _unsubscribe(self, name: str) -> None:
        subscriber = self.subscribers.pop(name, None)
        if subscriber is not None:
            subscriber.close()
            self._context.router.on_index_reset(name, self._context.clock())
            self._context.router.on_index_state(name, IndexState.NONE, self._context.clock())


def _goes_on(running: KvSubscriber, rank: Rank) -> bool:
    """Whether a subscription serves the replica that was identified again.

    One without a connection does not: another process may have come back, with empty caches, and until it is heard its
    replica must not be routed to by what the old one held.
    """
    return running.connected and (running.source, running.model) == (rank.events, rank.spec.base_model)
