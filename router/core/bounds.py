"""How many requests may wait and for how long, and when those that are refused may come back."""

from __future__ import annotations

from collections import Counter
from math import exp2

from router.core.flow import QueueLimits, Waiting
from router.core.types import Refusal, RefusalReason

_HALF_LIFE_S = 30.0
_LEAST_RETRY_AFTER_S = 1.0
_MOST_RETRY_AFTER_S = 60.0
"""OpenAI's SDKs do not heed more."""


class DrainRate:
    """How many requests leave per second while somebody waits. Older time fades out."""

    def __init__(self) -> None:
        self._left = 0.0
        self._seconds = 0.0
        self._since_s = 0.0

    def begin(self, now: float) -> None:
        """From now on somebody waits."""
        self._since_s = now

    def observe(self, now: float) -> None:
        """One left."""
        left, self._seconds = self._faded(now)
        self._left = left + 1.0
        self._since_s = now

    def per_s(self, now: float) -> float:
        """0 before anybody left."""
        left, seconds = self._faded(now)
        return left / seconds if seconds > 0 else 0.0

    def _faded(self, now: float) -> tuple[float, float]:
        passed_s = now - self._since_s
        fade = exp2(-passed_s / _HALF_LIFE_S)
        return self._left * fade, self._seconds * fade + passed_s


class Bounds:
    """Who waits, first come first, against the limits."""

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        self.by_tenant: Counter[str] = Counter()
        self._waiting: dict[Waiting, None] = {}
        self._drain = DrainRate()

    def enter(self, waiting: Waiting, now: float) -> Refusal | None:
        """A request found no room and has to wait. A refusal: there are too many who do."""
        refusal = self._excess(waiting.request.tenant, now)
        if refusal is None:
            if not self._waiting:
                self._drain.begin(now)
            self._waiting[waiting] = None
            self.by_tenant[waiting.request.tenant] += 1
        return refusal

    def left(self, waiting: Waiting, now: float) -> None:
        """A request found its replica, if it had to wait at all."""
        if self.forget(waiting):
            self._drain.observe(now)

    def forget(self, waiting: Waiting) -> bool:
        """A request waits no more, for whatever reason. False: it did not wait."""
        if waiting not in self._waiting:
            return False
        del self._waiting[waiting]
        tenant = waiting.request.tenant
        self.by_tenant[tenant] -= 1
        if not self.by_tenant[tenant]:
            del self.by_tenant[tenant]
        return True

    def overdue(self, now: float) -> list[Waiting]:
        """Who has waited for as long as anybody may."""
        overdue: list[Waiting] = []
        if self.limits.max_wait_s is not None:
            for waiting in self._waiting:
                if waiting.ticket.submitted_s + self.limits.max_wait_s > now:
                    break
                overdue.append(waiting)
        return overdue

    def next_overdue_s(self) -> float | None:
        """When the first of those that wait will have waited for too long."""
        first = next(iter(self._waiting), None)
        if first is None or self.limits.max_wait_s is None:
            return None
        return first.ticket.submitted_s + self.limits.max_wait_s

    def timeout(self, now: float) -> Refusal:
        """What is said to one who is overdue."""
        message = f"No replica had room for the request within {self.limits.max_wait_s:g} s."
        return Refusal(RefusalReason.QUEUE_TIMEOUT, message, self._retry_after_s(now))

    def _excess(self, tenant: str, now: float) -> Refusal | None:
        of_tenant = self.limits.max_waiting_of.get(tenant, self.limits.max_waiting_per_tenant)
        if of_tenant is not None and self.by_tenant[tenant] >= of_tenant:
            message = f"{self.by_tenant[tenant]} of your requests wait already, and no more of them may."
            return Refusal(RefusalReason.TENANT_QUEUE_FULL, message, self._retry_after_s(now))
        if self.limits.max_waiting is not None and len(self._waiting) >= self.limits.max_waiting:
            message = f"All replicas are busy, and {len(self._waiting)} requests wait already."
            return Refusal(RefusalReason.QUEUE_FULL, message, self._retry_after_s(now))
        return None

    def _retry_after_s(self, now: float) -> float:
        """When those that wait now should have left."""
        rate = self._drain.per_s(now)
        seconds = len(self._waiting) / rate if rate > 0 else 0.0
        return min(max(seconds, _LEAST_RETRY_AFTER_S), _MOST_RETRY_AFTER_S)
