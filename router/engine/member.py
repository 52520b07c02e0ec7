"""One server from the moment it is named to its removal: asked what it is, watched, asked again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from router.core.fleet import FleetFullError
from router.core.types import Health, Outcome, ReplicaSpec
from router.engine.context import EngineContext
from router.engine.discovery.address import ReplicaAddress
from router.engine.health import Check, HealthSettings, HealthTracker, check
from router.engine.kv_events.sequence import SequenceSettings
from router.engine.kv_events.subscriber import KvSubscriber
from router.engine.metrics import MetricsPoller
from router.engine.probe import ProbeError, probe
from router.engine.replicas import Replicas


@dataclass(slots=True, frozen=True)
class EngineSettings:
    metrics_interval_s: float = 1.0
    probe_pause_s: float = 0.25
    """Before a server that did not answer is asked again; doubles up to ``max_probe_pause_s``."""
    max_probe_pause_s: float = 1.0
    health: HealthSettings = field(default_factory=HealthSettings)
    sequence: SequenceSettings = field(default_factory=SequenceSettings)


class Member:
    """``run`` does everything; when it is cancelled the server's replicas are taken out of the router."""

    def __init__(self, address: ReplicaAddress, context: EngineContext, settings: EngineSettings) -> None:
        self.address = address
        self.tracker = HealthTracker(settings.health)
        self.poller = MetricsPoller(address.url, context, self._on_restart, settings.metrics_interval_s)
        self.replicas = Replicas(context, self._on_restart, settings.sequence)
        self.notes: tuple[str, ...] = ()
        """What was assumed of the server for want of its own word."""
        self._context = context
        self._settings = settings
        self._restarted = False
        self._wake = asyncio.Event()

    @property
    def specs(self) -> Iterable[ReplicaSpec]:
        """What the router was told of the server's replicas."""
        return self.replicas.specs.values()

    @property
    def subscribers(self) -> Mapping[str, KvSubscriber]:
        """Of the replicas that publish KV events, by name."""
        return self.replicas.subscribers

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.poller.run(), name=f"weft: poll {self.address.name}")
                tasks.create_task(self._keep_known(), name=f"weft: check {self.address.name}")
        finally:
            self.replicas.keep_only(())
            for source in (self.address.name, self.address.url):
                self._context.troubles.forget(source)

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
                if not self.replicas.specs:
                    self.replicas.put(ReplicaSpec(self.address.name, self.address.url, role=self.address.role))
                identity = await probe(self._context.session, self.address)
                self.poller.names = {rank.spec.rank: rank.spec.name for rank in identity.ranks}
                self.replicas.adopt(identity.ranks)
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
        self.poller.paused = self.tracker.health is not Health.HEALTHY
        self.replicas.set_health(self.tracker.health)

    def _on_restart(self) -> None:
        self._restarted = True
        self._wake.set()
        self.replicas.forget_own_history()
