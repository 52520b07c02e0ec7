"""Which replicas have room for a context, and where contexts are.

Those who ask are many, and between two of them little changes. So a place remembers what it could have given up for
the last one, which is good for whoever needs no more; and who is held remembers that there was no room, and looks again
only at places that have changed. What is remembered is what looking would find, to the letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from flow.admission.context import JUDGED_ANEW_S, Context, Member, Refused
from flow.admission.place import Place
from router.core.flow import ReplicaMemory

_AT_ANY_PRICE = -1.0


class Where(Enum):
    ANYWHERE = "anywhere"
    NOWHERE = "nowhere"


@dataclass(slots=True)
class Places:
    """All replicas' memory."""

    dropped: Callable[[Member], None]
    """Told of a program one of whose contexts is wanted nowhere any more."""
    coming: int = 0
    """Contexts that were let in and may go anywhere."""
    coming_tokens: float = 0.0
    """Of those, most of which share something."""
    _places: dict[str, Place] = field(default_factory=dict)
    _changes: int = 0

    def by_replica(self) -> Iterable[tuple[str, Place]]:
        return self._places.items()

    def update(self, replicas: Sequence[ReplicaMemory]) -> None:
        """What rests on a replica that is gone is lost."""
        for name, capacity_tokens, _, prefill_tokens_per_s, _ in replicas:
            place = self.at(name)
            if place.capacity_tokens != capacity_tokens or place.prefill_tokens_per_s != prefill_tokens_per_s:
                place.capacity_tokens, place.prefill_tokens_per_s = capacity_tokens, prefill_tokens_per_s
                self._note(place)
        if len(self._places) <= len(replicas):
            return
        names = {each.name for each in replicas}
        for name in [name for name in self._places if name not in names]:
            place = self._places[name]
            for context in list(place.resting):
                self.drop(context)
            if not place.open:
                del self._places[name]

    def where(self, context: Context, replicas: Sequence[ReplicaMemory], now: float, *, forced: bool) -> Where | str:
        """The replica that has room, of some that `update` was told of; ``forced``: whoever rests gives way."""
        known = context.refused
        asked = self._doubtful(context.tokens + self.coming_tokens, replicas, now) if known is None else replicas
        if not asked:
            return Where.ANYWHERE
        extended = context.program.extended_by(context)
        home = extended.replica if extended is not None else ""
        question = home, forced, self.coming_tokens
        if known is None or known.question != question or now - known.judged_s > JUDGED_ANEW_S:
            known = Refused(question, frozenset(), self._changes, now)
        judged_s, refusing = known.judged_s, set(known.by)
        for each in asked:
            if each.name in known.by and self._places[each.name].changed <= known.change:
                continue
            has_room, oldest_s = self._has_room(context, extended, each, now, forced=forced or each.name == home)
            judged_s = min(judged_s, oldest_s)
            if has_room:
                refusing.discard(each.name)
            else:
                refusing.add(each.name)
        context.refused = Refused(question, refusing, self._changes, judged_s)
        possible = [each for each in replicas if each.name not in refusing]
        if len(possible) == len(replicas):
            return Where.ANYWHERE
        if home and any(each.name == home for each in replicas):
            return Where.NOWHERE if home in refusing else home
        if not possible:
            return Where.NOWHERE
        return min(possible, key=lambda each: (*self._cost(context, extended, each), each.name)).name

    def expect(self, context: Context) -> None:
        """It was let in, and where it goes will be told."""
        self.coming += 1
        self.coming_tokens += context.tokens

    def expected(self, context: Context) -> None:
        """It came, or will not come."""
        self.coming -= 1
        self.coming_tokens = self.coming_tokens - context.tokens if self.coming else 0.0

    def put(self, context: Context, replica: str, now: float) -> None:
        """The context is wanted there from now on. Whoever rested longest makes room."""
        member = context.program
        extended = member.extended_by(context)
        if context.replica:
            self._take(context)
        place = self.at(replica)
        own = extended if extended is not None and extended.replica == replica else None
        lacking_tokens = place.tokens + place.need_tokens(context, own) - place.capacity_tokens
        if lacking_tokens > 0.0:
            self._make_room(place, lacking_tokens, context, own, now)
        place.put(context, own)
        self._touch(place)
        context.replica, context.refused = replica, None
        member.contexts[context] = None
        if own is not None:
            own.replica = ""
            del member.contexts[own]
        elif extended is not None:
            self.drop(extended)

    def rest(self, context: Context, further_tokens: float) -> None:
        """Its call is over, and the answer was so much longer than expected."""
        place = self.at(context.replica)
        place.rest(context, further_tokens)
        self._note(place)

    def drop(self, context: Context) -> None:
        """Its place is free."""
        context.program.contexts.pop(context, None)
        if context.replica:
            self._take(context)
        self.dropped(context.program)

    def abandon(self, context: Context) -> None:
        """Nobody will go on from it, but the replica's cache holds it until it is the oldest."""
        context.useless = True
        del context.program.contexts[context]
        place = self.at(context.replica)
        place.forget_useless()
        self._touch(place)

    def synchronise(self, member: Member, context: Context) -> None:
        """No other call of the program is open: what the context does not begin with is of no use any more."""
        if not member.contexts:
            return
        kept = member.extended_by(context)
        for each in member.resting():
            if each is not kept:
                self.abandon(each)

    def at(self, replica: str) -> Place:
        place = self._places.get(replica)
        if place is None:
            place = self._places[replica] = Place()
            self._touch(place)
        return place

    def _note(self, place: Place) -> None:
        """It has changed, but what it could give up has not."""
        self._changes += 1
        place.changed = self._changes

    def _touch(self, place: Place) -> None:
        """What was remembered of it holds no more."""
        self._note(place)
        place.offer = None

    def _take(self, context: Context) -> None:
        place = self.at(context.replica)
        place.take(context)
        self._touch(place)

    def _doubtful(self, tokens: float, replicas: Sequence[ReplicaMemory], now: float) -> list[ReplicaMemory]:
        """Those of which it is not known that so many tokens more fit, though nothing of them were there."""
        doubtful = []
        for each in replicas:
            place = self._places[each.name]
            room_tokens = each.capacity_tokens - place.stock.tokens
            if tokens <= room_tokens:
                continue
            offer = place.offer
            if (
                offer is None
                or tokens > room_tokens + offer.tokens
                or now - offer.judged_s > JUDGED_ANEW_S
                or tokens / each.prefill_tokens_per_s * max(place.open, 1) >= offer.patience_s
            ):
                doubtful.append(each)
        return doubtful

    def _has_room(
        self, context: Context, extended: Context | None, replica: ReplicaMemory, now: float, *, forced: bool
    ) -> tuple[bool, float]:
        """With the time when the oldest of the expectations that this rests on was formed."""
        place = self._places[replica.name]
        need_tokens, surplus_tokens = self._cost(context, extended, replica)
        lacking_tokens = need_tokens + surplus_tokens
        if need_tokens <= -surplus_tokens:
            return True, now
        prefill_s = need_tokens / replica.prefill_tokens_per_s
        patience_s = _AT_ANY_PRICE if forced else prefill_s * max(place.open, 1)
        offer = place.offered(lacking_tokens, context, patience_s, extended, now)
        if offer.enough and offer.general:
            place.offer = offer
        alone = forced and not place.open and not self.coming
        return offer.enough or alone, offer.judged_s

    def _cost(self, context: Context, extended: Context | None, replica: ReplicaMemory) -> tuple[float, float]:
        """What it needs there, and the room that there is, below 0: lower is better."""
        place = self._places[replica.name]
        need_tokens = min(place.need_tokens(context, extended), replica.capacity_tokens)
        return need_tokens, place.tokens + self.coming_tokens - replica.capacity_tokens

    def _make_room(self, place: Place, tokens: float, newcomer: Context, spared: Context | None, now: float) -> None:
        offer = place.offered(tokens, newcomer, _AT_ANY_PRICE, spared, now)
        given = offer.contexts if offer.enough else [context for context in place.resting if context is not spared]
        for context in given:
            self.drop(context)
