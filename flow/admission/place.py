"""A replica's KV memory as contexts fill it, open ones and those at rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import NamedTuple

from flow.admission.context import Context
from flow.admission.stock import Stock, common

_LOOKED_AT = 256
"""Contexts that are considered at most when somebody needs room."""
_NOTHING: Counter[int] = Counter()


class Offer(NamedTuple):
    """Contexts at rest that may give way to a newcomer, oldest first."""

    contexts: list[Context]
    tokens: float
    """Free without them."""
    patience_s: float
    """All of their programs are expected back after this."""
    judged_s: float
    """When the oldest of these expectations was formed."""
    enough: bool
    """False: the next one is expected back too soon, or there is none."""
    general: bool
    """Nobody was spared: it is as good for others."""


@dataclass(slots=True, eq=False)
class Place:
    """Of one replica."""

    capacity_tokens: float = 0.0
    prefill_tokens_per_s: float = 0.0
    stock: Stock = field(default_factory=Stock)
    resting: dict[Context, None] = field(default_factory=dict)
    """In the order in which the replica's own cache forgets them: whose call ended first. The first is not useless."""
    open: int = 0
    changed: int = 0
    """The number of its last change."""
    offer: Offer | None = None
    """The last one that was enough for a newcomer, if nothing has changed since."""

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
        context.missing = None
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

    def offered(self, tokens: float, newcomer: Context, patience_s: float, spared: Context | None, now: float) -> Offer:
        """Contexts without which so many tokens are free for the newcomer, but none whose program is expected back
        within ``patience_s``."""
        given: list[Context] = []
        taken: Counter[int] = _NOTHING
        kept, lacking_tokens, least_s, judged_s, general, enough = 0, tokens, inf, now, True, True
        for context in islice(self.resting, _LOOKED_AT):
            if lacking_tokens <= 0.0:
                break
            if context is spared:
                general = False
                continue
            if not context.useless:
                expected_s = context.expected_s(now)
                judged_s = min(judged_s, context.judged_s)
                if expected_s <= patience_s:
                    enough = False
                    break
                least_s = min(least_s, expected_s)
            if kept:
                # What the last one gave up is freed, or there are others who want it.
                taken = taken or Counter()
                taken.update(given[-1].stretches[:kept])
            stretches = context.stretches
            kept = self.stock.kept(stretches, taken)
            freed = len(stretches) - max(kept, common(stretches, newcomer.stretches))
            lacking_tokens -= freed * context.stretch_tokens + context.rest_tokens
            given.append(context)
        enough = enough and lacking_tokens <= 0.0
        return Offer(given, tokens - lacking_tokens, least_s, judged_s, enough, general)

    def _missing(self, context: Context) -> int:
        """How many of its stretches nobody wants here yet. Those who are held are asked for again and again."""
        if not context.stretches:
            return 0
        if context.missing is None:
            context.missing = {}
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
