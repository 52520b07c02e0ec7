"""Replicas found in Kubernetes: the pods of a label selector or of an InferencePool, as they become ready and leave.

While the API server cannot be reached, the replicas that were there stay: if they are really gone, their health says
so. A pod that terminates is not named any more: it gets nothing new and ends what it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from router.engine.discovery.kubernetes_api import Cluster, Collection, KubernetesApi
from router.engine.discovery.kubernetes_follow import Follower, Pauses
from router.engine.discovery.kubernetes_pods import Findings, Pod, PodRules
from router.engine.discovery.kubernetes_pool import VERSIONS, InferencePool
from router.engine.discovery.kubernetes_state import KubernetesState, Wanted
from router.engine.discovery.source import Addresses
from router.engine.trouble import Troubles


@dataclass(slots=True)
class _Changes:
    """What happened since somebody looked."""

    pools: asyncio.Event = field(default_factory=asyncio.Event)
    replicas: asyncio.Event = field(default_factory=asyncio.Event)


class KubernetesDiscovery:
    """Follows one set of pods. ``findings`` and ``problem`` are for whoever wants to know why a pod is not named."""

    def __init__(
        self,
        cluster: Cluster,
        wanted: Wanted,
        rules: PodRules,
        troubles: Troubles,
        pauses: Pauses = Pauses(),  # noqa: B008 - frozen
    ) -> None:
        self.name = wanted.name
        self._wanted = wanted
        self._rules = rules
        self._troubles = troubles
        self._pauses = pauses
        self._api = KubernetesApi(cluster)
        self._state = KubernetesState(wanted, rules)
        self._changes = _Changes()
        self._pool_follower: Follower[InferencePool] | None = None
        self._pod_follower: Follower[Pod] | None = None
        self._wrong: frozenset[str] = frozenset()

    @property
    def findings(self) -> Findings | None:
        """None: nothing is known yet."""
        return self._state.findings()

    @property
    def problem(self) -> str:
        """Why nothing new is heard, or why an InferencePool names no pods; empty: all is well."""
        followers = (self._pool_follower, self._pod_follower)
        unheard = [each.problem for each in followers if each is not None and each.problem]
        return "; ".join(unheard) or self._state.problem()

    async def watch(self) -> AsyncIterator[Addresses]:
        self._state = KubernetesState(self._wanted, self._rules)
        self._changes = _Changes()
        told: Addresses | None = None
        running = asyncio.create_task(self._run(), name=f"weft: {self.name}")
        running.add_done_callback(lambda _: self._changes.replicas.set())
        try:
            while True:
                await self._changes.replicas.wait()
                self._changes.replicas.clear()
                if running.done():
                    await running  # only a defect ends it
                    return
                findings = self._state.findings()
                if findings is not None:
                    self._note_wrong(findings)
                    if findings.addresses != told:
                        told = findings.addresses
                        yield told
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if not self._wanted.pool:
                tasks.create_task(self._follow_pods())
                return
            tasks.create_task(self._follow_pool())
            pods: asyncio.Task[None] | None = None
            while True:
                await self._changes.pools.wait()
                self._changes.pools.clear()
                if self._state.retarget():
                    if pods is not None:
                        pods.cancel()
                    self._pod_follower = None
                    pods = tasks.create_task(self._follow_pods()) if self._state.followed else None
                if problem := self._state.problem():
                    self._troubles.note("kubernetes", self.name, problem)
                self._changes.replicas.set()

    async def _follow_pool(self) -> None:
        wanted = self._wanted
        pools = Collection(
            "inferencepools", wanted.namespace, wanted.pool_group, VERSIONS[wanted.pool_group], name=wanted.pool
        )
        self._pool_follower = Follower(
            self._api, pools, self._state.pools, self._changes.pools.set, self._note, self._pauses
        )
        await self._pool_follower.run()

    async def _follow_pods(self) -> None:
        pods = Collection("pods", self._wanted.namespace, labels=self._state.followed)
        self._pod_follower = follower = Follower(
            self._api, pods, self._state.pods, self._changes.replicas.set, self._note, self._pauses
        )
        await follower.run()

    def _note(self, problem: str) -> None:
        self._troubles.note("kubernetes", self.name, problem)

    def _note_wrong(self, findings: Findings) -> None:
        """Each pod once, when it goes wrong."""
        for pod in sorted(findings.wrong - self._wrong):
            self._troubles.note("kubernetes", f"{self.name}: pod {pod}", findings.left_out[pod])
        self._wrong = findings.wrong
