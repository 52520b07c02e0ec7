"""What programs are judged by while requests of theirs wait, looked at again only when something becomes of them.

Of a program with few requests waiting, all of them are ranked again with each event of it, as their places among each
other may change too; of one with many, that is done once in so many events that it costs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from router.core.flow import ProgramKey, Waiting
from router.core.programs.program import Program

_FEW = 16
"""Requests that are ranked again for each event."""

Judge = Callable[[Program, int], float]
"""What a program needs still, in seconds; with the tokens of the longest prompt among those that wait."""


@dataclass(slots=True)
class _Standing:
    program: Program
    context_tokens: int
    cost_s: float
    waiting: int = 0
    events: int = 0
    """Since its requests were ranked."""


class Standings:
    """By program; those of which nothing waits are not kept."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._standings: dict[ProgramKey, _Standing] = {}
        self._moved: dict[ProgramKey, None] = {}

    def __len__(self) -> int:
        return len(self._standings)

    def cost_s(self, key: ProgramKey) -> float:
        """As it was judged last; 0 for a program that is not followed."""
        standing = self._standings.get(key)
        return 0.0 if standing is None else standing.cost_s

    def of_tenants(self, tenants: Collection[str]) -> list[ProgramKey]:
        return [key for key in self._standings if key[0] in tenants] if tenants else []

    def moved(self) -> dict[ProgramKey, None]:
        """Programs that were judged anew since this was last asked."""
        moved, self._moved = self._moved, {}
        return moved

    def come(self, waiting: Waiting) -> None:
        """A request of a program that is followed came."""
        if waiting.step is None:
            return
        request, program = waiting.request, waiting.step.program
        standing = self._standings.get(request.program_key)
        if standing is None:
            cost_s = self._judge(program, request.prompt_tokens)
            standing = self._standings[request.program_key] = _Standing(program, request.prompt_tokens, cost_s)
        else:
            standing.program = program
            standing.context_tokens = max(standing.context_tokens, request.prompt_tokens)
            self.look(request.program_key)
        standing.waiting += 1

    def left(self, waiting: Waiting) -> None:
        """The request waits no more."""
        key = waiting.request.program_key
        standing = self._standings.get(key)
        if standing is None:
            return
        standing.waiting -= 1
        if standing.waiting:
            self.look(key)
        else:
            del self._standings[key]
            self._moved.pop(key, None)

    def look(self, key: ProgramKey) -> None:
        """Something became of the program."""
        standing = self._standings.get(key)
        if standing is None:
            return
        standing.events += 1
        if standing.events * _FEW >= standing.waiting:
            standing.events = 0
            standing.cost_s = self._judge(standing.program, standing.context_tokens)
            self._moved[key] = None
