"""One request with two legs, from the choice of its prefill replica to its end."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.disaggregation.topology import Distance
from router.core.flow import Waiting
from router.core.types import Ticket


@dataclass(slots=True, eq=False)
class Pair:
    """The waiting request has its decode replica in its ticket's decision, and its prefill leg in its ticket."""

    waiting: Waiting
    distance: Distance
    fetched_tokens: int
    """Prompt tokens that the decode replica did not hold when it was chosen."""
    tried: tuple[str, ...] = ()
    """Prefill replicas, the present one included."""
    prefilled_s: float | None = None
    """When the prefill leg ended."""

    @property
    def ticket(self) -> Ticket:
        return self.waiting.ticket
