"""A replica's KV memory as contexts fill it, open ones and those at rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from flow.admission.context import Context
from flow.admission.stock import Stock

_LOOKED_AT = 256
"""Contexts that are considered at most when somebody needs room."""


@dataclass(slots=True, eq=False)
class Place:
    """Of one replica."""

    capacity_tokens: float = 0.0
    stock: Stock = field(default_factory=Stock)
    resting: dict[Context, None] = field(default_factory=dict)
    """In the order in which the replica's own cache forgets them: whose call ended first. The first is not useless."""
    open: int = 0

    @property
    def tokens(self) -> float:
        return self.stock.tokens

    def need_tokens(self, context: Context, extended: Context | None) -> float:
        """What the context would add, in place of the one that it goes on from."""
        need_tokens = self._missing(context) * context.stretch_tokens + context.rest_tokens
        return need_tokens - (extended.rest_tokens if extended is not None and extended in self.resting else 0.0)

    def put(self, context: Context, extended: Context | None) -> None:
        """A context that is open, in place of the one here that it goes on from."""
        replaced = len(extended.stretches) if extended is not None else 0
        self.stock.add(context.stretches[replaced:] if replaced else context.stretches, context.stretch_tokens)
        self.stock.tokens += context.rest_tokens
        context.missing.clear()
        self.open += 1
        if extended is not None:
            self.stock.tokens -= extended.rest_tokens
            del self.resting[extended]
            self.forget_useless()

    def rest(self, context: Context, further_tokens: float) -> None:
        """Its call is over, and the answer was so much longer than expected."""
        context.rest_tokens += further_tokens
        self.stock.tokens += further_tokens
        self.open -= 1
        self.resting[context] = None

    def take(self, context: Context) -> None:
        """Nothing is kept for it any more."""
        self._take(context)
        self.forget_useless()

    def forget_useless(self) -> None:
        """What is useless and older than all that is not: the cache has no reason to keep it."""
        while self.resting:
            oldest = next(iter(self.resting))
            if not oldest.useless:
                return
            self._take(oldest)

    def givable(
        self, tokens: float, newcomer: Context, patience_s: float, spared: Context | None, now: float
    ) -> list[Context] | None:
        """Contexts at rest without which so many tokens are free for the newcomer, oldest first. None: that would take
        one whose program is expected back within ``patience_s``, or there are too few."""
        given: list[Context] = []
        taken: Counter[int] = Counter()
        for context in islice(self.resting, _LOOKED_AT):
            if tokens <= 0.0:
                break
            if context is spared:
                continue
            if not context.useless and context.expected_s(now) <= patience_s:
                return None
            if not given:
                known = newcomer.stretches[: len(newcomer.stretches) - self._missing(newcomer)]
                taken.subtract(known)
            tokens -= self.stock.freed(context.stretches, taken) * context.stretch_tokens + context.rest_tokens
            given.append(context)
        return given if tokens <= 0.0 else None

    def _missing(self, context: Context) -> int:
        """How many of its stretches nobody wants here yet. Those who are held are asked for again and again."""
        version, missing = context.missing.get(self, (-1, 0))
        if version != self.stock.version:
            missing = self.stock.missing(context.stretches)
            context.missing[self] = self.stock.version, missing
        return missing

    def _take(self, context: Context) -> None:
        self.stock.remove(context.stretches, context.stretch_tokens)
        self.stock.tokens -= context.rest_tokens
        self.open -= context.open
        self.resting.pop(context, None)
        context.replica = ""
