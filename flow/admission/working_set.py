"""Keeps the contexts of programs that are let in within the replicas' KV memory, so that they do not evict each other.

When programs come back from their tools to caches that others have taken, everybody computes everything again.
Denning's working set model says what to do: run no more programs than there is memory for, and let the others wait.

- What a program wants of a replica is counted in its prompts and answers, what it has in common with others once.
- A request is let in where what it adds fits. While no replica is short of memory, nothing is held, and nobody is told
  where to go.
- Between two calls a context keeps its place until somebody needs the room. Contexts go in the order in which the
  replica's cache forgets them: for a call that goes on from a context there, whoever rests; for any other, only who is
  expected back after the newcomer's prefill times the calls there that it slows down. On a replica with little to do
  prefill is cheap, and what rests gives way; on a busy one newcomers wait.
- Who is held is let in by the order of the queue, whoever of the first fits. A call held for ``longest_hold_s`` goes
  before all others and past whoever rests; after twice that, in any case.

Sources: P. J. Denning, "The working set model for program behavior", CACM 11(5), 1968; docs/programs.md for what was
measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from flow.admission.context import Context, Member, draft
from flow.admission.places import Places, Where
from router.core.flow import Memories, OnReplica, ProgramKey, ReplicaMemory, Waiting
from router.core.held import Held
from router.core.types import Outcome, Ticket, Usage

_LOOK_AGAIN_S = 0.25
_TRIED_AT_ONCE = 8
"""Held requests that are looked at when something happened."""


class Wait(NamedTuple):
    waiting: Waiting
    context: Context
    since_s: float


class WorkingSet:
    """Admission of programs by KV memory."""

    name = "working-set"

    def __init__(self, longest_hold_s: float = 3600.0) -> None:
        if longest_hold_s <= 0:
            raise ValueError(f"longest_hold_s must be above 0, not {longest_hold_s}")
        self._longest_hold_s = longest_hold_s
        self._places = Places(self._forget_if_gone)
        self._members: dict[ProgramKey, Member] = {}
        self._open: dict[Ticket, Context] = {}
        self._waits: dict[Ticket, Wait] = {}
        """Of those who are held, longest first."""
        self._next_look_s = 0.0

    def enter(self, waiting: Waiting, replicas: Sequence[ReplicaMemory], now: float) -> bool:
        self._places.update(replicas)
        key = waiting.request.program_key
        member = self._members.get(key)
        if member is None:
            member = self._members[key] = Member(key)
        context = draft(waiting, member)
        if not member.open and not member.held:
            self._places.synchronise(member, context)
        overtakes = bool(self._waits) and not member.contexts
        if not overtakes and self._let_in(waiting, context, replicas, now, held_s=0.0):
            return True
        member.held += 1
        self._waits[waiting.ticket] = Wait(waiting, context, now)
        self._next_look_s = now
        return False

    def release(self, held: Held, memories: Memories, now: float) -> list[Waiting]:
        if not self._waits or now < self._next_look_s:
            return []
        replicas = memories()
        self._places.update(replicas)
        self._next_look_s = now + _LOOK_AGAIN_S
        released = []
        overdue = self._overdue(now)
        for waiting in overdue or held.first(_TRIED_AT_ONCE):
            _, context, since_s = self._waits[waiting.ticket]
            if self._let_in(waiting, context, replicas, now, now - since_s):
                self.withdraw(waiting)
                released.append(waiting)
                self._next_look_s = now
            elif overdue:
                break
        return released

    def withdraw(self, waiting: Waiting) -> None:
        member = self._waits.pop(waiting.ticket).context.program
        member.held -= 1
        self._forget_if_gone(member)

    def next_wakeup(self) -> float | None:
        return self._next_look_s if self._waits else None

    def submitted(self, waiting: Waiting, now: float) -> None:
        """`enter` has it all."""

    def dispatched(self, waiting: Waiting, now: float) -> None:
        context, decision = self._open[waiting.ticket], waiting.ticket.decision
        if decision is None:
            return
        if not context.replica:
            self._places.expected(context)
        if context.replica != decision.replica.name:
            self._places.put(context, decision.replica.name, now)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        context = self._open.pop(waiting.ticket, None)
        if context is not None:
            self._lose(context)
            self._next_look_s = now

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        context = self._open.pop(ticket)
        self._next_look_s = now
        if outcome is not Outcome.OK or not context.replica:
            self._lose(context)
            return
        self._rest(context, ticket, usage, now)
        program = context.program
        if not program.open and _is_over(ticket, context):
            for each in program.resting():
                self._places.abandon(each)
            self._forget_if_gone(program)

    def on_replicas(self) -> list[OnReplica]:
        programs = Counter(
            replica for member in self._members.values() for replica in {each.replica for each in member.contexts}
        )
        return [
            OnReplica(name, programs[name], sum(not each.useless for each in place.resting), place.tokens)
            for name, place in self._places.by_replica()
        ]

    def _overdue(self, now: float) -> list[Waiting]:
        since_s = now - self._longest_hold_s
        return [each.waiting for each in takewhile(lambda each: each.since_s <= since_s, self._waits.values())]

    def _let_in(
        self, waiting: Waiting, context: Context, replicas: Sequence[ReplicaMemory], now: float, held_s: float
    ) -> bool:
        where = self._places.where(
            context, _that_may_serve(waiting, replicas), now, forced=held_s >= self._longest_hold_s
        )
        if where is Where.NOWHERE and held_s < 2.0 * self._longest_hold_s:
            return False
        context.program.open += 1
        if isinstance(where, str):
            self._places.put(context, where, now)
            waiting.pinned = where
        else:
            self._places.expect(context)
        self._open[waiting.ticket] = context
        return True

    def _rest(self, context: Context, ticket: Ticket, usage: Usage | None, now: float) -> None:
        further_tokens = 0.0
        if usage is not None and usage.completion_tokens is not None:
            further_tokens = ticket.request.prompt_tokens + usage.completion_tokens - context.tokens
        self._places.rest(context, further_tokens)
        context.open, context.ended_s = False, now
        context.program.open -= 1

    def _lose(self, context: Context) -> None:
        """A call that was let in came to nothing."""
        if context.replica:
            self._places.drop(context)
        else:
            self._places.expected(context)
        context.program.open -= 1
        self._forget_if_gone(context.program)

    def _forget_if_gone(self, member: Member) -> None:
        is_gone = not member.contexts and not member.open and not member.held
        # What is useless may be dropped after its program was forgotten and came again.
        if is_gone and self._members.get(member.key) is member:
            del self._members[member.key]


def _that_may_serve(waiting: Waiting, replicas: Sequence[ReplicaMemory]) -> list[ReplicaMemory]:
    request, base = waiting.request, waiting.model.base
    allowed = [each for each in replicas if each.model in ("", base)]
    if request.subset is None and not request.excluded:
        return allowed
    subset = {each.name for each in allowed} if request.subset is None else request.subset
    return [each for each in allowed if each.name in subset - request.excluded]


def _is_over(ticket: Ticket, context: Context) -> bool:
    """The program will not call again, as far as its client tells."""
    return ticket.request.is_final if context.call is None else context.call.final
