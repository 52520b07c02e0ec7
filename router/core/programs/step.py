"""A step: one LLM call of a program, expected or seen, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.core.programs.history import ClassHistory
    from router.core.programs.program import Program
    from router.core.programs.sketch import Sketch


class State(StrEnum):
    EXPECTED = "expected"
    """Declared, or what a join is waited for by; it has not come."""
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    ABANDONED = "abandoned"
    """Its client left, or its program ended without it."""

    @property
    def over(self) -> bool:
        return self in _OVER

    @property
    def open(self) -> bool:
        """It has come and is not over."""
        return self in _OPEN


_OVER = frozenset((State.DONE, State.FAILED, State.ABANDONED))
_OPEN = frozenset((State.WAITING, State.RUNNING))


class Source(StrEnum):
    """What an estimate of the steps to come rests on."""

    DECLARED = "declared"
    HINTED = "hinted"
    HISTORY = "history"
    """Other programs of the class."""


@dataclass(slots=True, eq=False)
class Step:
    """A node of a program's graph. It is a `Call`.

    ``path_s`` is its upward rank, kept by `router.core.programs.rank`: ``wait_s + time_s + the larger of tail_s and the
    longest path of its followers``. Edges are there only while they hold something up: they go when the step that is
    waited for is over, or the one that should have waited comes.
    """

    program: Program
    name: str
    number: int
    """In its program; steps that follow others have larger ones, save where a join was expected before its siblings."""
    kind: str
    """What its history is kept under."""
    state: State = State.EXPECTED
    declared: bool = False
    after: tuple[str, ...] = ()
    """The steps that it followed or is declared to follow; of one that nobody told of, the one that ended last."""
    waits_for: dict[Step, None] = field(default_factory=dict)
    followers: dict[Step, None] = field(default_factory=dict)
    join: Join | None = None
    """The siblings that it is one of."""
    gathers: Join | None = None
    """The siblings that it is waiting for."""
    level: int = 1
    """Calls on the longest path from the program's beginning to this step, itself included."""
    reach_s: float = 0.0
    """Seconds on that path: waits for tools and, once it is over, its own call, but no waits in the router."""

    wait_s: float = 0.0
    """Expected from the end of what it follows to its coming; 0 once it came."""
    time_s: float = 0.0
    """Expected of its call: all of it until the first token, then the decoding; 0 once it is over."""
    path_s: float = 0.0
    tail_s: float = 0.0
    """Expected after it beyond all known followers; 0 once something took that up."""
    tail_calls: float = 0.0
    """Calls that ``tail_s`` is made of."""
    calls_after: float | None = None
    """Calls on the longest path after it, as they were expected when it came. None: nobody knew anything."""

    prompt_tokens: int = 0
    resent_tokens: int = 0
    """Of its prompt, those at its beginning that the program had sent before."""
    cached_tokens: int = 0
    """Expected when it is dispatched, replaced by what the replica says."""
    output_tokens: float = 0.0
    """Expected, replaced by what the replica says."""
    hinted_tokens: int | None = None
    usual_tokens: float = 0.0
    """Output tokens expected without the hint."""
    max_tokens: int | None = None
    ready_s: float | None = None
    """When the last of what it follows ended."""
    came_s: float | None = None
    dispatched_s: float | None = None
    started_s: float | None = None
    ended_s: float | None = None
    tries: int = 0
    request_id: str = ""

    is_step = True

    @property
    def step(self) -> Step:
        return self

    @property
    def history(self) -> ClassHistory:
        return self.program.history

    @property
    def final(self) -> bool:
        return self.program.final

    def waits_s(self) -> Sketch:
        return self.program.history.waits_s(self.kind)


@dataclass(slots=True, eq=False)
class Join:
    """Siblings that one later step waits for."""

    name: str
    node: Step
    """The step that waits."""
    width: int = 0
    """How many siblings there are, as far as told or seen."""
    members: int = 0
    """Siblings that came."""
    over: int = 0
    """... and are over."""
    sibling_s: float = 0.0
    """Expected time of one that has not come."""
    counted: int = 0
    """Missing siblings as the program's sums have them, ..."""
    counted_s: float = 0.0
    """... and their expected time."""

    @property
    def missing(self) -> int:
        """Siblings that have not come."""
        return max(self.width - self.members, 0)

    @property
    def left(self) -> int:
        """Siblings that the step still waits for."""
        return max(self.width, self.members) - self.over
