"""Which replicas have room for a context, and where contexts are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from flow.admission.context import Context, Member
from flow.admission.place import Place
from router.core.flow import ReplicaMemory

_AT_ANY_PRICE = -1.0


class Where(Enum):
    ANYWHERE = "anywhere"
    NOWHERE = "nowhere"


@dataclass(slots=True)
class Places:
    """All replicas' memory."""

    coming: int = 0
    """Contexts that were let in and may go anywhere."""
    coming_tokens: float = 0.0
    """Of those, most of which share something."""
    _places: dict[str, Place] = field(default_factory=dict)

    def by_replica(self) -> Iterable[tuple[str, Place]]:
        return self._places.items()

    def at(self, replica: str) -> Place:
        place = self._places.get(replica)
        if place is None:
            place = self._places[replica] = Place()
        return place

    def update(self, replicas: Sequence[ReplicaMemory]) -> None:
        """What rests on a replica that is gone is lost."""
        for each in replicas:
            self.at(each.name).capacity_tokens = each.capacity_tokens
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
        coming_tokens = context.tokens + self.coming_tokens
        places = self._places
        if all(coming_tokens <= each.capacity_tokens - places[each.name].stock.tokens for each in replicas):
            return Where.ANYWHERE
        extended = context.program.extended_by(context)
        home = extended.replica if extended is not None else ""
        costs = {
            each.name: self._cost(context, extended, each, now, forced=forced or each.name == home) for each in replicas
        }
        possible = {name: cost for name, cost in costs.items() if cost is not None}
        if len(possible) == len(replicas):
            return Where.ANYWHERE
        if home in costs:
            return home if home in possible else Where.NOWHERE
        return min(possible, key=lambda name: (possible[name], name), default=Where.NOWHERE)

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
            self.at(context.replica).take(context)
        place = self.at(replica)
        own = extended if extended is not None and extended.replica == replica else None
        lacking_tokens = place.tokens + place.need_tokens(context, own) - place.capacity_tokens
        if lacking_tokens > 0.0:
            self._make_room(place, lacking_tokens, context, own, now)
        place.put(context, own)
        context.replica = replica
        member.contexts[context] = None
        if own is not None:
            own.replica = ""
            del member.contexts[own]
        elif extended is not None:
            self.drop(extended)

    def drop(self, context: Context) -> None:
        """Its place is free."""
        context.program.contexts.pop(context, None)
        if context.replica:
            self.at(context.replica).take(context)

    def abandon(self, context: Context) -> None:
        """Nobody will go on from it, but the replica's cache holds it until it is the oldest."""
        context.useless = True
        del context.program.contexts[context]
        self.at(context.replica).forget_useless()

    def synchronise(self, member: Member, context: Context) -> None:
        """No other call of the program is open: what the context does not begin with is of no use any more."""
        kept = member.extended_by(context)
        for each in member.resting():
            if each is not kept:
                self.abandon(each)

    def _cost(
        self, context: Context, extended: Context | None, replica: ReplicaMemory, now: float, *, forced: bool
    ) -> tuple[float, float] | None:
        """Lower is better. None: there is no room."""
        place = self.at(replica.name)
        need_tokens = min(place.need_tokens(context, extended), replica.capacity_tokens)
        room_tokens = replica.capacity_tokens - place.tokens - self.coming_tokens
        if need_tokens <= room_tokens:
            return need_tokens, -room_tokens
        prefill_s = need_tokens / replica.prefill_tokens_per_s
        patience_s = _AT_ANY_PRICE if forced else prefill_s * max(place.open, 1)
        given = place.givable(need_tokens - room_tokens, context, patience_s, extended, now)
        alone = forced and not place.open and not self.coming
        return None if given is None and not alone else (need_tokens, -room_tokens)

    def _make_room(self, place: Place, tokens: float, newcomer: Context, spared: Context | None, now: float) -> None:
        given = place.givable(tokens, newcomer, _AT_ANY_PRICE, spared, now)
        if given is None:
            given = [context for context in place.resting if context is not spared]
        for context in given:
            self.drop(context)
