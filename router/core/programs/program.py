"""A program under way: its steps, what they cost so far, and what is expected to be left."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter

from router.core.programs.fair import Key
from router.core.programs.history import ClassHistory
from router.core.programs.peak import Peak
from router.core.programs.sent import Sent
from router.core.programs.step import Join, Source, Step

_PATH_S = attrgetter("path_s")
_TAIL_CALLS = attrgetter("tail_calls")

_HINT_WORTH = 20.0
"""What clients tell of the steps to come counts as much as so many programs that ran before, if all of it is right."""


@dataclass(slots=True, eq=False)
class Program:
    """One agent run.

    What is left is expected, moves with events and not with time: a running step counts in full until its first token,
    then for its decoding, until it is over.
    """

    key: Key
    """Tenant and program."""
    history: ClassHistory
    first_seen_s: float
    last_seen_s: float
    kind: str = ""
    """The program's class."""
    parent: str = ""
    """The program of the same tenant that spawned this one."""
    deadline_s: float | None = None
    priority: int = 0
    declared: bool = False
    final: bool = False
    finished_s: float | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    """By name. When a name comes again, the earlier step is renamed ``name~number``."""

    calls: int = 0
    """Steps that came; a second try of one is no other call."""
    waiting: int = 0
    running: int = 0
    most_open: int = 0
    """Calls that waited or ran at once."""
    level: int = 0
    """Calls on the longest path so far."""
    reach_s: float = 0.0
    """Seconds on the longest path so far, without waits in the router."""
    attained_s: float = 0.0
    """Seconds that replicas worked for it, or had it waiting."""
    waited_s: float = 0.0
    """Seconds that its requests waited in the router."""
    computed_tokens: int = 0
    """Prompt tokens that no cache had."""
    cached_tokens: int = 0
    output_tokens: int = 0
    recomputed_tokens: int = 0
    """Prompt tokens that a replica computed although the program had sent them before."""
    longest_context_tokens: int = 0
    """The longest prompt with its answer: what of it a replica's cache may hold."""

    sent: Sent = field(default_factory=Sent)
    first_expected_s: float = 0.0
    """The remaining path as it was expected when the first call came."""
    told: int = 0
    """Statements of clients on its graph."""
    contradicted: int = 0
    """... that what happened has shown to be wrong."""
    source: Source = Source.HISTORY
    """What the newest estimate of the steps to come rests on."""
    next_number: int = 0
    dropped_steps: int = 0
    """That are no longer in ``steps``, as there were too many."""
    edges: int = 0
    """Declared ones."""
    name_chars: int = 0
    """Of all steps' names."""

    known_s: float = 0.0
    """Expected time of the steps in ``steps`` that are not over."""
    missing_s: float = 0.0
    """... of siblings that were announced and have not come."""
    expected: int = 0
    """Steps in the state EXPECTED."""
    missing: int = 0
    """Siblings that were announced and have not come."""
    call_s: float = 0.0
    """Expected time of a call that nothing is known of."""
    breadth: float = 1.0
    """Calls per call on the longest path, among the calls that nothing is known of."""
    loose: dict[Step, None] = field(default_factory=dict)
    """Steps that are over and should be followed by more, earliest first."""
    joins: dict[str, Join] = field(default_factory=dict)
    """Whose waiting step has not come."""
    first: Step | None = None
    last_over: Step | None = None
    paths: Peak = field(default_factory=lambda: Peak(_PATH_S))
    tails: Peak = field(default_factory=lambda: Peak(_TAIL_CALLS))

    @property
    def open(self) -> int:
        """Calls that wait or run."""
        return self.waiting + self.running

    @property
    def attained_tokens(self) -> int:
        """Tokens that replicas computed for it."""
        return self.computed_tokens + self.output_tokens

    @property
    def tokens(self) -> int:
        """Of all prompts and answers."""
        return self.computed_tokens + self.cached_tokens + self.output_tokens

    @property
    def remaining_path_s(self) -> float:
        """Seconds to its end if nothing ever had to wait for a replica, tool waits included."""
        return self.paths.top()

    @property
    def remaining_work_s(self) -> float:
        """Seconds of replicas' work that are left."""
        unknown_s = self.tails.top() * self.breadth * self.call_s
        missing_s = self.missing_s / self.missing * self._to_come if self.missing else 0.0
        return max(self.known_s, 0.0) + missing_s + unknown_s

    @property
    def remaining_calls(self) -> float:
        return self.open + self.expected + self._to_come + self.tails.top() * self.breadth

    @property
    def _to_come(self) -> int:
        """Missing siblings that nothing is known of yet: others are still at earlier steps."""
        if not self.missing:
            return 0
        siblings = sum(join.members - join.over for join in self.joins.values())
        return max(self.missing - (self.open - siblings) - len(self.loose), 0)

    @property
    def evidence(self) -> float:
        """How many observations the estimate of what is left rests on, 0 and more: the programs of its class that came
        as far, or what its client tells of it, as far as that was not contradicted."""
        seen = self.history.lengths.observations(self.calls)
        if self.source is Source.HISTORY:
            return seen
        return _HINT_WORTH * max(1.0 - self.contradicted / max(self.told, 1), 0.0)

    def likely_calls_left(self, share: float) -> int:
        """Calls that ``share`` of the programs of its class, of those that came as far, did not exceed from here."""
        return self.history.lengths.quantile_after(self.calls, share)

    def rank_s(self, step: Step) -> float:
        """Upward rank: the longest expected path from the step, itself included, to the program's end."""
        return step.path_s

    def add_step(self, name: str, kind: str) -> Step:
        """A new step, EXPECTED. One that has its name already is renamed."""
        number = self.next_number
        self.next_number = number + 1
        name = name or f"#{number}"
        self.name_chars += len(name)
        earlier = self.steps.pop(name, None)
        if earlier is not None:
            self.rename(earlier, f"{name}~{earlier.number}")
        step = self.steps[name] = Step(self, name, number, kind)
        self.expected += 1
        return step

    def dissolve(self) -> None:
        """Lets go of all steps. They and the program hold each other, and a cycle is freed only when the collector of
        cycles comes by, which takes 3 µs per step that is alive."""
        for step in self.steps.values():
            step.followers.clear()
            step.waits_for.clear()
            step.join = step.gathers = None
        self.steps.clear()
        self.loose.clear()
        self.joins.clear()
        self.first = self.last_over = None
        self.paths, self.tails = Peak(_PATH_S), Peak(_TAIL_CALLS)

    def rename(self, step: Step, name: str) -> None:
        """``name`` must be free, and the step not in ``steps`` under its old one."""
        while name in self.steps:
            name += "~"
        step.name = name
        self.steps[name] = step
