"""What is to be done about one request's prefill, before it leaves."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.disaggregation.rule import Way
from router.core.disaggregation.stats import Fallback
from router.core.disaggregation.topology import Distance
from router.core.view import Candidates, View


@dataclass(slots=True, frozen=True)
class Prospect:
    """The replicas that could compute a prompt for another one, and how busy they are."""

    candidates: Candidates
    view: View


@dataclass(slots=True, frozen=True)
class Choice:
    """The best prefill replica for a request whose decode replica is known."""

    candidates: Candidates
    position: int
    distance: Distance
    """From the decode replica."""
    way: Way
    transfer_s: float
    """To the decode replica, what that one does not hold."""
    has_room: bool
    """The gate would let the prompt start on one of the candidates."""

    @property
    def slot(self) -> int:
        return int(self.candidates.slots[self.position])


@dataclass(slots=True, frozen=True)
class Plan:
    """``choice`` is None where there is nothing to choose, and nothing is disaggregated then."""

    disaggregates: bool
    rule: str
    here: Way
    """Aggregated, on the decode replica."""
    choice: Choice | None = None
    fallback: Fallback | None = None

    @property
    def must_wait(self) -> bool:
        return self.disaggregates and self.choice is not None and not self.choice.has_room

    def explain(self) -> dict[str, object]:
        told: dict[str, object] = {"disaggregated": self.disaggregates, "rule": self.rule}
        if self.fallback is not None:
            told["fallback"] = str(self.fallback)
        told["decode"] = _explain(self.here)
        if self.choice is not None:
            told["prefill"] = _explain(self.choice.way)
            told["transfer_ms"] = round(self.choice.transfer_s * 1e3, 2)
        return told


def _explain(way: Way) -> dict[str, object]:
    return {
        "replica": way.replica,
        "uncached_tokens": way.uncached_tokens,
        "queue_ms": round(way.queue_s * 1e3, 2),
        "compute_ms": round(way.compute_s * 1e3, 2),
        "running_requests": int(way.running_requests),
    }
