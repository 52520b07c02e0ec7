"""ThunderAgent's pause and resume: keeps the contexts of active programs within the replicas' KV memory.

A program is active on one replica, to which all its requests go, or paused, when its requests are held. It reasons
while a request of it is under way and acts (runs tools) in between. A new program starts at once, on the replica with
the fewest active tokens, if nobody is paused and it fits; else it is paused. Every 5 s:

- Resume. Paused programs in the order reasoning, new, acting, shortest first, as far as they fit into the room of all
  replicas together; of these the longest first to the replica with most room. The tokens of a program that has acted
  for ``t`` seconds count ``2**-t`` here.
- Pause. While the programs of a replica exceed its capacity: those that act, shortest first; then those that reason,
  shortest first, each once its requests have ended.

Whoever was held for 1800 s resumes wherever he was. A program has the tokens of its last prompt and answer, 100 for the
next answer, and shares with others of its replica what its reasoning programs have beyond the memory in use.

Differences: tokens are counted, not guessed from characters; parallel requests of a program act when the last has
ended; a program is released by its last step (``x-program-final``) or after an idle time, as there is no call for it;
a request that names no program is one that is over when the request is.
Source: arXiv 2602.13692, ThunderAgent-org/ThunderAgent, ThunderAgent/scheduler/router.py and backend/state.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from flow.admission.thunder_programs import BUFFER_TOKENS, Program, Programs
from router.core.flow import Memories, OnReplica, ReplicaMemory, Waiting
from router.core.held import Held
from router.core.types import Outcome, Ticket, Usage


class ThunderAgent:
    """Admission of programs by KV memory."""

    name = "thunder-agent"

    def __init__(
        self, tick_s: float = 5.0, longest_hold_s: float = 1800.0, idle_s: float = 3600.0, max_programs: int = 100_000
    ) -> None:
        self._tick_s = tick_s
        self._longest_hold_s = longest_hold_s
        self._programs = Programs(max_programs, idle_s)
        self._held = 0
        self._next_tick_s: float | None = None

    def enter(self, waiting: Waiting, replicas: Sequence[ReplicaMemory], now: float) -> bool:
        program = self._programs.use(waiting.request.program_key)
        program.requests += 1
        program.under_way += 1
        self._programs.resize(program, waiting.request.prompt_tokens)
        if self._next_tick_s is None:
            self._next_tick_s = now + self._tick_s
        if not replicas:
            return True
        if not program.replica and not program.paused:
            self._start(program, replicas)
        if program.paused:
            program.held[waiting] = None
            self._held += 1
            return False
        waiting.pinned = program.replica
        return True

    def release(self, held: Held, memories: Memories, now: float) -> list[Waiting]:
        if self._next_tick_s is None or now < self._next_tick_s:
            return []
        replicas = memories()
        self._next_tick_s = now + self._tick_s
        self._programs.forget_idle(now)
        for stray in self._programs.stray({each.name: each for each in replicas}):
            self._programs.pause(stray)
        if not replicas:
            return [waiting for program in list(self._programs.paused.values()) for waiting in self._let_go(program)]
        self._programs.learn_shared(replicas)
        released = self._resume(replicas, now) + self._resume_overdue(replicas, now)
        for replica in replicas:
            self._pause_until_safe(replica)
        return released

    def withdraw(self, waiting: Waiting) -> None:
        program = self._programs.find(waiting.request.program_key)
        if program is not None and waiting in program.held:
            del program.held[waiting]
            self._held -= 1

    def next_wakeup(self) -> float | None:
        return self._next_tick_s if self._held else None

    def on_replicas(self) -> list[OnReplica]:
        return [
            OnReplica(name, len(active), sum(not each.reasoning for each in active), self._programs.active_tokens(name))
            for name, active in self._programs.by_replica()
        ]

    def submitted(self, waiting: Waiting, now: float) -> None:
        """`enter` has it all."""

    def dispatched(self, waiting: Waiting, now: float) -> None:
        """It counts from its coming to its end."""

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        self._over(waiting.ticket, now)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        program = self._programs.find(ticket.request.program_key)
        if program is not None and usage is not None:
            prompt_tokens = usage.prompt_tokens or ticket.request.prompt_tokens
            self._programs.resize(program, prompt_tokens + (usage.completion_tokens or 0))
        self._over(ticket, now)

    def _over(self, ticket: Ticket, now: float) -> None:
        program = self._programs.find(ticket.request.program_key)
        if program is None:
            return
        program.under_way -= 1
        if program.reasoning:
            return
        program.acting_since_s = now
        if ticket.request.is_final:
            self._programs.forget(program)
        elif program.marked:
            self._programs.pause(program)

    def _start(self, program: Program, replicas: Sequence[ReplicaMemory]) -> None:
        fitting = [each for each in replicas if self._programs.room_tokens(each) >= program.needed_tokens]
        if self._programs.paused or not fitting:
            self._programs.pause(program)
        else:
            best = min(fitting, key=lambda each: self._programs.active_tokens(each.name))
            self._programs.place(program, best.name)

    def _resume(self, replicas: Sequence[ReplicaMemory], now: float) -> list[Waiting]:
        room = {each.name: self._programs.hopeful_room_tokens(each, now) for each in replicas}
        room = {name: tokens for name, tokens in room.items() if tokens > BUFFER_TOKENS}
        chosen, left_tokens = [], sum(room.values())
        for program in sorted(self._programs.paused.values(), key=_urgency):
            if program.needed_tokens <= left_tokens:
                chosen.append(program)
                left_tokens -= program.needed_tokens
        released = []
        for program in sorted(chosen, key=lambda each: -each.tokens):
            widest = max(room, key=lambda name: room[name])
            if program.needed_tokens <= room[widest]:
                room[widest] -= program.needed_tokens
                self._programs.place(program, widest)
                released += self._let_go(program)
        return released

    def _resume_overdue(self, replicas: Sequence[ReplicaMemory], now: float) -> list[Waiting]:
        released = []
        names = [each.name for each in replicas]
        for program in list(self._programs.paused.values()):
            first = next(iter(program.held), None)
            if first is not None and first.ticket.submitted_s + self._longest_hold_s <= now:
                fewest = min(names, key=lambda name: len(self._programs.active_on(name)))
                self._programs.place(program, program.last_replica if program.last_replica in names else fewest)
                released += self._let_go(program)
        return released

    def _pause_until_safe(self, replica: ReplicaMemory) -> None:
        if self._programs.room_tokens(replica) >= 0:
            return
        active = [each for each in self._programs.active_on(replica.name) if not each.marked]
        for program in sorted(active, key=lambda each: (each.reasoning, each.tokens)):
            if self._programs.room_tokens(replica) >= 0:
                return
            if program.reasoning:
                self._programs.mark(program)
            else:
                self._programs.pause(program)

    def _let_go(self, program: Program) -> list[Waiting]:
        held = list(program.held)
        program.held.clear()
        self._held -= len(held)
        for waiting in held:
            waiting.pinned = program.replica
        return held


def _urgency(program: Program) -> tuple[int, float]:
    if program.requests == 1:
        return 1, program.tokens
    return (0 if program.reasoning else 2), program.tokens
