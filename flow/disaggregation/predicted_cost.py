"""Computes a prompt where that costs least, in predicted seconds.

    here      = queue + compute + stall_weight * compute * answers under way
    elsewhere = the same there + transfer

The request waits for what is queued before its own prefill; its prefill stalls each answer under way on that replica
for as long as it takes. A second of somebody else's stall, spread over the tokens of an answer, counts for
``stall_weight`` seconds of waiting for a first token.
"""

from __future__ import annotations

from router.core.disaggregation.rule import Way, Ways


class PredictedCost:
    name = "predicted-cost"

    def __init__(self, stall_weight: float = 1.0) -> None:
        self._stall_weight = stall_weight

    def disaggregates(self, ways: Ways) -> bool:
        return self.cost_s(ways.elsewhere) + ways.transfer_s < self.cost_s(ways.here)

    def cost_s(self, way: Way) -> float:
        """Without the transfer."""
        return way.queue_s + way.compute_s * (1.0 + self._stall_weight * way.running_requests)
