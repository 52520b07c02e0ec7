"""What programs are judged by while requests of theirs wait, looked at again only when something becomes of them.

Nobody is judged before somebody asks: who leaves as soon as it came, and of whom nothing is known, never is. Of a
program with few requests waiting, all of them are ranked again with each event of it, as their places among each other
may change too; of one with many, that is done once in so many events that it costs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from router.core.flow import ProgramKey, Waiting
from router.core.programs.call import Call
from router.core.programs.program import Program

_FEW = 16
"""Requests that are ranked again for each event."""

Judge = Callable[[Program, int], float]
"""What a program needs still, in seconds; with the tokens of the longest prompt among those that wait."""


@dataclass(slots=True)
class _Standing:
    newest: Call
    """Of its calls, the one that came last."""
    context_tokens: int
    cost_s: float | None = None
    """None: to be judged when somebody asks."""
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
        if standing is None:
            return 0.0
        if standing.cost_s is None:
            standing.cost_s = self._judge(standing.newest.step.program, standing.context_tokens)
        return standing.cost_s

    def of_tenants(self, tenants: Collection[str]) -> list[ProgramKey]:
        return [key for key in self._standings if key[0] in tenants] if tenants else []

    def moved(self) -> dict[ProgramKey, None]:
        """Programs that are to be judged anew since this was last asked."""
        moved, self._moved = self._moved, {}
        return moved

    def come(self, waiting: Waiting) -> None:
        """A request of a program that is followed came."""
        call, request = waiting.call, waiting.request
        if call is None:
            return
        key = request.program_key
        standing = self._standings.get(key)
        if standing is None:
            standing = self._standings[key] = _Standing(call, request.prompt_tokens)
        else:
            standing.newest = call
            standing.context_tokens = max(standing.context_tokens, request.prompt_tokens)
            self.look(key)
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
            self.reconsider(key)

    def reconsider(self, key: ProgramKey) -> None:
        """The program is to be judged anew, if anything of it waits."""
        standing = self._standings.get(key)
        if standing is not None:
            standing.events, standing.cost_s = 0, None
            self._moved[key] = None
