"""One server from the moment it is named to its removal: asked what it is, watched, asked again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import zmq

from router.core.fleet import FleetFullError
from router.core.types import Health, IndexState, Outcome, ReplicaSpec
from router.engine.context import EngineContext
from router.engine.discovery.address import ReplicaAddress
from router.engine.health import Check, HealthSettings, HealthTracker, check
from router.engine.identity import Rank
from router.engine.kv_events.sequence import SequenceSettings
from router.engine.kv_events.subscriber import KvSubscriber
from router.engine.kv_events.wire import EventDecoder
from router.engine.metrics import MetricsPoller
from router.engine.probe import ProbeError, probe


@dataclass(slots=True, frozen=True)
class EngineSettings:
    metrics_interval_s: float = 1.0
    probe_pause_s: float = 0.25
    """Before a server that did not answer is asked again; doubles up to ``max_probe_pause_s``."""
    max_probe_pause_s: float = 5.0
    health: HealthSettings = field(default_factory=HealthSettings)
    sequence: SequenceSettings = field(default_factory=SequenceSettings)


class Member:
    """``run`` does everything; when it is cancelled the server's replicas are taken out of the router."""

    def __init__(self, address: ReplicaAddress, context: EngineContext, settings: EngineSettings) -> None:
        self.address = address
        self.tracker = HealthTracker(settings.health)
        self.poller = MetricsPoller(address.url, context, self._on_restart, settings.metrics_interval_s)
        self.subscribers: dict[str, KvSubscriber] = {}
        self.notes: tuple[str, ...] = ()
        self._specs: dict[str, ReplicaSpec] = {}
        self._announced: dict[str, Health] = {}
        self._context = context
        self._settings = settings
        self._restarted = False
        self._wake = asyncio.Event()

    @property
    def specs(self) -> Iterable[ReplicaSpec]:
        """What the router was told of the server's replicas."""
        return self._specs.values()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.poller.run())
                tasks.create_task(self._keep_known())
        finally:
            self._keep_only(())
            self._context.troubles.forget(self.address.name)

    def note(self, outcome: Outcome) -> None:
        """How a request that was sent to one of the server's replicas ended."""
        self.tracker.note(outcome, self._context.clock())
        if outcome in (Outcome.FAILED, Outcome.TIMEOUT):
            self._announce_health()
            self._wake.set()

    async def _keep_known(self) -> None:
        while True:
            await self._identify()
            await self._watch()

    async def _identify(self) -> None:
        """Asks until the server says what it is."""
        pause_s = self._settings.probe_pause_s
        while True:
            try:
                if not self._specs:
                    self._put(ReplicaSpec(self.address.name, self.address.url, role=self.address.role))
                identity = await probe(self._context.session, self.address)
                self._adopt(identity.ranks)
            except (ProbeError, FleetFullError) as error:
                self._context.troubles.note("probe_failed", self.address.name, str(error))
            else:
                break
            self._checked(Check.DOWN)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._settings.max_probe_pause_s)
        self.notes = identity.notes
        for note in identity.notes:
            self._context.troubles.note("assumed", self.address.name, note)
        self._checked(Check.OK)

    async def _watch(self) -> None:
        """Returns when the server has come back or was restarted: then it may be another one."""
        while not self._restarted:
            await self._sleep_until_check()
            if self._restarted:
                break
            result = await check(self._context.session, self.address.url, self._settings.health)
            was_healthy = self.tracker.health is Health.HEALTHY
            self.tracker.checked(result, self._context.clock())
            if self.tracker.health is Health.HEALTHY and not was_healthy:
                return
            self._announce_health()
        self._restarted = False

    async def _sleep_until_check(self) -> None:
        while (wait_s := self.tracker.next_check_s - self._context.clock()) > 0 and not self._restarted:
            self._wake.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _checked(self, result: Check) -> None:
        self.tracker.checked(result, self._context.clock())
        self._announce_health()

    def _announce_health(self) -> None:
        health = self.tracker.health
        for name in self._specs:
            if self._announced.get(name) is not health:
                self._announced[name] = health
                self._context.router.on_health(name, health, self._context.clock())

    def _on_restart(self) -> None:
        """The server's caches are empty now. Those that report events say so themselves."""
        self._restarted = True
        self._wake.set()
        for spec in self.specs:
            if not spec.reports_events:
                self._context.router.on_index_reset(spec.name, self._context.clock())

    def _adopt(self, ranks: tuple[Rank, ...]) -> None:
        """Makes the router's view that of the server. Raises FleetFullError."""
        self._keep_only(rank.spec.name for rank in ranks)
        for rank in ranks:
            known = self._specs.get(rank.spec.name)
            self._put(rank.spec)
            other_model = known is not None and known.base_model != rank.spec.base_model
            self._subscribe(rank, other_model)
        self.poller.names = {rank.spec.rank: rank.spec.name for rank in ranks}

    def _put(self, spec: ReplicaSpec) -> None:
        if self._specs.get(spec.name) != spec:
            self._context.router.on_replica(spec, self._context.clock())
            self._specs[spec.name] = spec

    def _subscribe(self, rank: Rank, other_model: bool) -> None:
        name = rank.spec.name
        running = self.subscribers.get(name)
        if running is not None and running.source == rank.events and not other_model:
            return
        self._unsubscribe(name)
        if rank.events is None:
            return
        subscriber = KvSubscriber(
            name,
            rank.events,
            EventDecoder(rank.spec.base_model),
            self._context,
            self._on_restart,
            self._settings.sequence,
        )
        try:
            subscriber.start()
        except zmq.ZMQError as error:
            subscriber.close()
            self._context.troubles.note("no_events", name, f"cannot subscribe to {rank.events.endpoint}: {error}")
            self._put(replace(rank.spec, reports_events=False))
        else:
            self.subscribers[name] = subscriber

    def _unsubscribe(self, name: str) -> None:
        subscriber = self.subscribers.pop(name, None)
        if subscriber is not None:
            subscriber.close()
            self._context.router.on_index_reset(name, self._context.clock())
            self._context.router.on_index_state(name, IndexState.NONE, self._context.clock())

    def _keep_only(self, names: Iterable[str]) -> None:
        """Takes all other replicas of this server out of the router."""
        self.poller.names = {}
        for name in self._specs.keys() - set(names):
            self._unsubscribe(name)
            self._context.router.on_replica_gone(name, self._context.clock())
            del self._specs[name]
            self._announced.pop(name, None)
