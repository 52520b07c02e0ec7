"""Computes a prompt where that costs least, in predicted seconds, and never where it would make answers stutter.

    here      = queue + compute + stall_weight * compute * answers under way
    elsewhere = the same there + transfer

The request waits for what is queued before its own prefill, and its prefill stalls each answer under way on its replica
for as long as it takes. Spread over the tokens of an answer a short stall is hardly seen, a long one is: beside answers
the decode replica computes nothing that would keep them waiting for longer than ``max_stall_s``. docs/pd.md says what
else was tried.
"""

from __future__ import annotations

from router.core.disaggregation.rule import Way, Ways


class PredictedCost:
    name = "predicted-cost"
    splits = True

    def __init__(self, stall_weight: float = 0.1, max_stall_s: float = 0.15) -> None:
        self._stall_weight = stall_weight
        self._max_stall_s = max_stall_s

    def disaggregates(self, ways: Ways) -> bool:
        here = ways.here
        if here.running_requests and here.queue_s + here.compute_s > self._max_stall_s:
            return True
        return self._cost_s(ways.elsewhere) + ways.transfer_s < self._cost_s(here)

    def _cost_s(self, way: Way) -> float:
        """Without the transfer."""
        return way.queue_s + way.compute_s * (1.0 + self._stall_weight * way.running_requests)
