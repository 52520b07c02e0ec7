"""Computes a prompt where that costs least, in predicted seconds, and never where it would make answers stutter.

    here      = queue + compute + stall_weight * compute * answers under way
    elsewhere = the same there + transfer

The request waits for what is queued before its own prefill, and its prefill stalls each answer under way on its replica
for as long as it takes. Spread over the tokens of an answer a short stall is hardly seen, a long one is: beside answers
the decode replica computes nothing that would keep them waiting for longer than ``max_stall_s``. Only where the request
would begin more than ``max_detour_s`` later elsewhere it does, for then prefill replicas are too few. docs/pd.md says
what else was tried.
"""

from __future__ import annotations

from router.core.disaggregation.rule import Way, Ways


class PredictedCost:
    name = "predicted-cost"
    splits = True

    def __init__(self, stall_weight: float = 0.1, max_stall_s: float = 0.15, max_detour_s: float = 60.0) -> None:
        self._stall_weight = stall_weight
        self._max_stall_s = max_stall_s
        self._max_detour_s = max_detour_s

    def disaggregates(self, ways: Ways) -> bool:
        here, elsewhere = ways.here, ways.elsewhere
        detour_s = elsewhere.queue_s + elsewhere.compute_s + ways.transfer_s - here.queue_s - here.compute_s
        if here.running_requests and here.queue_s + here.compute_s > self._max_stall_s:
            return detour_s < self._max_detour_s
        return self._cost_s(elsewhere) + ways.transfer_s < self._cost_s(here)

    def _cost_s(self, way: Way) -> float:
        """Without the transfer."""
        return way.queue_s + way.compute_s * (1.0 + self._stall_weight * way.running_requests)
