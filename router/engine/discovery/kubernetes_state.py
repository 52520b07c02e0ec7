"""What a Kubernetes discovery knows: which pods to follow, and which replicas they are.

Sans-IO: whoever drives it fills the two mirrors and asks again after each change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from router.engine.discovery.kubernetes_mirror import Mirror
from router.engine.discovery.kubernetes_pods import Findings, Pod, PodRules, find_replicas
from router.engine.discovery.kubernetes_pool import InferencePool, PoolError, Target, target_of


@dataclass(slots=True, frozen=True)
class Wanted:
    """Whose pods: those of a label selector, or of an InferencePool."""

    namespace: str
    selector: str = ""
    pool: str = ""
    pool_group: str = "inference.networking.k8s.io"

    @property
    def name(self) -> str:
        what = f"InferencePool {self.pool}" if self.pool else f"pods {self.selector}"
        return f"kubernetes {self.namespace}: {what}"


class KubernetesState:
    """``pools`` stays empty where the pods are selected by label."""

    def __init__(self, wanted: Wanted, rules: PodRules) -> None:
        self.wanted = wanted
        self.pools = Mirror(InferencePool)
        self.pods = Mirror(Pod)
        self.followed = wanted.selector
        """The selector of the pods that ``pods`` is of; empty: of none."""
        self._rules = rules

    def retarget(self) -> bool:
        """To be asked after ``pools`` has changed: whether other pods are to be followed now, from a new list."""
        target = self._target()
        selector = target.selector if target else ""
        if selector == self.followed:
            return False
        self.followed = selector
        self.pods = Mirror(Pod)
        return True

    def findings(self) -> Findings | None:
        """None: not known yet."""
        if not self.wanted.pool:
            return find_replicas(self.pods.objects.values(), self._rules) if self.pods.known else None
        if not self.pools.known:
            return None
        target = self._target()
        if target is None:
            return Findings((), {}, frozenset())
        if target.selector != self.followed or not self.pods.known:
            return None
        return find_replicas(self.pods.objects.values(), replace(self._rules, ports=target.ports))

    def problem(self) -> str:
        """What is wrong with the pool; empty: nothing."""
        if not self.wanted.pool or not self.pools.known:
            return ""
        pool = self.pools.objects.get(self.wanted.pool)
        if pool is None:
            return f"no InferencePool {self.wanted.pool} in namespace {self.wanted.namespace}"
        try:
            target_of(pool)
        except PoolError as error:
            return str(error)
        return ""

    def _target(self) -> Target | None:
        pool = self.pools.objects.get(self.wanted.pool)
        if pool is None or self.problem():
            return None
        return target_of(pool)
