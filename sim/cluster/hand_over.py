"""Brings the KV blocks of prompts from the replica that computed them to the one that answers.

The latter asks for them when it has room. They stay kept at the former until they have arrived, or their lease ends: a
transfer that fails tells nobody there. Blocks that are kept no longer when they are asked for count as a failure; vLLM
would read whatever is in them by then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from sim.cluster.call import Call, Prefill
from sim.cluster.interfaces import Interfaces
from sim.cluster.replica import Replica
from sim.cluster.timeline import Timeline
from sim.engine import Status, TransferModel


class HandOver:
    """Transfers between the replicas of one cluster."""

    def __init__(
        self,
        model: TransferModel,
        failures: float,
        timeline: Timeline,
        replicas: Sequence[Replica],
        random: Random,
        failed: Callable[[Call], None],
    ) -> None:
        """A share ``failures`` of all transfers fails. ``failed`` is told of calls that their replica gives up then."""
        self._model = model
        self._failures = failures
        self._timeline = timeline
        self._replicas = replicas
        self._random = random
        self._failed = failed
        self._interfaces = Interfaces(timeline, model.bandwidth_bytes_per_s)

    def fetch(self, call: Call) -> None:
        """The replica that answers has room for what it does not hold of the prompt."""
        prefill = call.prefill
        if prefill is None:
            raise LookupError(f"no replica has computed the prompt of call {call.request.id} for another one")
        prefill.record.asked_s = self._timeline.now
        self._timeline.after(self._model.latency_s, self._send, call, prefill)

    def _send(self, call: Call, prefill: Prefill) -> None:
        record = prefill.record
        fails = bool(self._failures) and self._random.random() < self._failures
        if fails or not self._replicas[record.replica].engine.is_kept(prefill.work.id):
            self._fail(call, prefill)
            return
        size = self._model.bytes_left(call.work.fetched_tokens, record.ended_s - record.scheduled_s)
        self._interfaces.send(record.replica, call.record.replica, size, partial(self._arrived, call, prefill))

    def _arrived(self, call: Call, prefill: Prefill) -> None:
        record = prefill.record
        record.fetched_tokens = call.work.fetched_tokens
        record.transfer_s = self._timeline.now - record.asked_s
        self._replicas[record.replica].release(prefill.work.id)
        self._replicas[call.record.replica].kv_arrived(call.work.id)

    def _fail(self, call: Call, prefill: Prefill) -> None:
        prefill.record.failed = True
        self._replicas[call.record.replica].kv_failed(call.work.id)
        if call.work.status is Status.FAILED:
            self._failed(call)
