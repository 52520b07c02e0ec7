"""What scorers, filters and pickers see of one decision.

``Candidates`` are the replicas in question and what of the prompt each holds; ``View`` is how busy each is. All arrays
have one element per candidate, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.core.fleet import Fleet, Slots
from router.core.load import Column, Load
from router.core.types import ReplicaSpec


@dataclass(slots=True)
class Candidates:
    """The replicas that may serve a request."""

    slots: Slots
    fleet: Fleet
    cached_tokens: NDArray[np.int64]
    """Prompt tokens held from the start of the prompt, in any tier."""
    gpu_tokens: NDArray[np.int64]
    cpu_tokens: NDArray[np.int64]
    disk_tokens: NDArray[np.int64]
    """The same tokens split by the fastest tier that holds them."""

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def replicas(self) -> Sequence[ReplicaSpec]:
        specs = self.fleet.specs
        return [spec for slot in self.slots if (spec := specs[slot]) is not None]


class View:
    """How busy the candidates are. Each property gathers its column anew; keep it in a local if used twice."""

    __slots__ = ("_load", "_slots", "now")

    def __init__(self, load: Load, slots: Slots, now: float) -> None:
        self._load = load
        self._slots = slots
        self.now = now

    @property
    def queued_requests(self) -> Column:
        """Requests sent or seen waiting there whose prefill is not done."""
        load, slots = self._load, self._slots
        return load.queued[slots] + load.foreign_queued[slots]

    @property
    def running_requests(self) -> Column:
        load, slots = self._load, self._slots
        return load.started[slots] + load.foreign_running[slots]

    @property
    def queued_prefill_tokens(self) -> Column:
        """Prompt tokens to compute before a new request's turn; foreign requests count as average ones."""
        load, slots = self._load, self._slots
        return load.prefill_tokens[slots] + load.foreign_queued[slots] * load.mean_uncached[slots]

    @property
    def context_tokens(self) -> Column:
        """Prompt tokens of all requests in flight there that Weft sent."""
        return self._load.context_tokens[self._slots]

    @property
    def capacity_tokens(self) -> Column:
        """KV capacity in tokens, 0 when unknown."""
        return self._load.capacity_tokens[self._slots]

    @property
    def kv_usage(self) -> Column:
        """Share of KV blocks held by running requests, 0..1, by the last report."""
        return self._load.kv_usage[self._slots]

    @property
    def prefill_tokens_per_s(self) -> Column:
        return self._load.prefill_rate[self._slots]

    @property
    def active_adapters(self) -> Sequence[frozenset[str]]:
        """LoRA adapters in use on each candidate, by the last report."""
        return [self._load.active_adapters[slot] for slot in self._slots]
