"""What scorers, filters and pickers see of one decision.

``Candidates`` are the replicas in question and what of the prompt each holds; ``View`` is how busy each is. All arrays
have one element per candidate, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from router.core.fleet import Fleet, Slots
from router.core.load import (
    CAPACITY_TOKENS,
    CONTEXT_TOKENS,
    FOREIGN_PREFILL_TOKENS,
    FOREIGN_QUEUED,
    FOREIGN_RUNNING,
    KV_USAGE,
    PREFILL_RATE,
    PREFILL_TOKENS,
    QUEUED,
    STARTED,
    Column,
    Load,
)
from router.core.types import ReplicaSpec


class Candidates:
    """The replicas that may serve a request."""

    __slots__ = ("fleet", "held_tokens", "slots")

    def __init__(self, slots: Slots, fleet: Fleet, held_tokens: NDArray[np.float64]) -> None:
        """``held_tokens[row, candidate]``: prompt tokens held from the start of the prompt. Row 0: in any tier;
        rows 1 to 3: of these, those whose fastest tier is GPU, CPU, disk. Whole numbers."""
        self.slots = slots
        self.fleet = fleet
        self.held_tokens = held_tokens

    def __len__(self) -> int:
        return len(self.slots)

    def among(self, mask: NDArray[np.bool_]) -> Candidates:
        """Those for which ``mask`` is true."""
        return Candidates(self.slots[mask], self.fleet, self.held_tokens[:, mask])

    @property
    def cached_tokens(self) -> Column:
        """Prompt tokens held from the start of the prompt, in any tier."""
        tokens: Column = self.held_tokens[0]
        return tokens

    @property
    def tier_tokens(self) -> NDArray[np.float64]:
        """``cached_tokens`` split by the fastest tier that holds them: rows for GPU, CPU, disk."""
        return self.held_tokens[1:]

    @property
    def replicas(self) -> Sequence[ReplicaSpec]:
        specs = self.fleet.specs
        return [spec for slot in self.slots if (spec := specs[slot]) is not None]


class Leg(Enum):
    """What the candidates are wanted for."""

    ANSWER = "answer"
    PREFILL = "prefill"
    """To compute the prompt of a request that another replica answers."""


class View:
    """How busy the candidates are."""

    __slots__ = ("_load", "_slots", "_table", "elsewhere_tokens", "leg", "now", "transfer_s")

    def __init__(self, load: Load, slots: Slots, now: float, leg: Leg = Leg.ANSWER) -> None:
        self._load = load
        self._slots = slots
        self._table = load.table.take(slots, axis=1)
        self.now = now
        self.leg = leg
        self.transfer_s: Column | None = None
        """Of a prefill leg, how long the prompt's KV blocks take from there to the replica that answers."""
        self.elsewhere_tokens: Column | None = None
        """What it costs to compute the prompt on another replica and to fetch what the candidate lacks, in tokens to
        compute. None: that is not to be had."""

    def _column(self, row: int) -> Column:
        column: Column = self._table[row]
        return column

    @property
    def queued_requests(self) -> Column:
        """Requests sent or seen waiting there whose prefill is not done."""
        return self._column(QUEUED) + self._column(FOREIGN_QUEUED)

    @property
    def running_requests(self) -> Column:
        return self._column(STARTED) + self._column(FOREIGN_RUNNING)

    @property
    def queued_prefill_tokens(self) -> Column:
        """Prompt tokens to compute before a new request's turn; foreign requests count as average ones."""
        return self._column(PREFILL_TOKENS) + self._column(FOREIGN_PREFILL_TOKENS)

    @property
    def context_tokens(self) -> Column:
        """Prompt tokens of all requests in flight there that Weft sent."""
        return self._column(CONTEXT_TOKENS)

    @property
    def capacity_tokens(self) -> Column:
        """KV capacity in tokens; 400,000 where it is unknown."""
        return self._column(CAPACITY_TOKENS)

    @property
    def kv_usage(self) -> Column:
        """Share of KV blocks held by running requests, 0..1, by the last report."""
        return self._column(KV_USAGE)

    @property
    def prefill_tokens_per_s(self) -> Column:
        """Learned online."""
        return self._column(PREFILL_RATE)

    @property
    def active_adapters(self) -> Sequence[frozenset[str]]:
        """LoRA adapters in use on each candidate, by the last report."""
        return [self._load.active_adapters[slot] for slot in self._slots]
