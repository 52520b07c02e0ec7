"""NVIDIA Dynamo's first conditional disaggregation: remote for long prefills while the prefill queue is short.

``PyDisaggregatedRouter`` of Dynamo 0.x (examples/llm/components/disagg_router.py): a prefill is remote iff what the
decode worker does not hold is longer than ``max_local_prefill_length`` (1,000) and the prefill queue shorter than
``max_prefill_queue_size`` (2). Its queue is one for all prefill workers and holds what none of them has begun; here it
is that of the prefill replica which would be chosen, without the prompt that it computes.
"""

from __future__ import annotations

from dataclasses import replace

from router.core.disaggregation.rule import Ways
from sim.policies import dynamo_pd


class LongAndShortQueue:
    name = "dynamo-queue"
    splits = True

    def __init__(self, max_local_prefill_length: int = 1000, max_prefill_queue_size: int = 2) -> None:
        self._tokens = max_local_prefill_length
        self._queue = max_prefill_queue_size

    def disaggregates(self, ways: Ways) -> bool:
        waiting = max(ways.elsewhere.queued_requests - 1.0, 0.0)
        return ways.here.uncached_tokens > self._tokens and waiting < self._queue


POLICY = replace(
    dynamo_pd.POLICY,
    name="dynamo-pd-queue",
    line="Dynamo 0.x: remote above 1,000 uncached tokens while fewer than 2 prefills wait",
    make_rule=LongAndShortQueue,
)
