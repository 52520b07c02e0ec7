"""The rule of prefix lineage: what a prompt is to the program whose marks it meets.

A program's own history is what no other live program's prompts begin with. What several have passed through is a common
head (tool definitions, system prompts) and says nothing. So, with the deepest mark that a prompt meets:

- passed by several programs, or none there: a new program;
- where a step ended: the next step of that step's program, or, if others follow it already, a sibling of theirs;
- elsewhere in a program's history: a fork. The context was edited, or the siblings' parent was never a prompt.

A program's first prompt, its opening, is no history yet: it may be a common head of which the others have not come. A
prompt that parts from it belongs to the program if it

- comes with it, as the branches of a fan-out do, or parts where such branches did;
- or continues the opening from its very end;
- or shares at least `LineageLimits.own_blocks` of it beyond a common head of at least as many.

The last two are guesses about those that come late, and are given up when they turn out to be wrong: when a branch goes
on after a later one has begun (one agent does not do that), and after `LineageLimits.max_bursts`. An opening that comes
again word by word after it was followed is another program's, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from router.core.programs.lineage_marks import END, Entries, Found
from router.core.programs.lineage_trail import Trail

if TYPE_CHECKING:
    from router.core.programs.newcomer import Newcomer


class Relation(StrEnum):
    """What a prompt is to those before it."""

    NEW = "new"
    """The first of a program."""
    EXTENSION = "extension"
    """It begins with an earlier prompt that nothing has followed yet."""
    SIBLING = "sibling"
    """It begins with an earlier prompt that others have followed, or differs from one in its last block alone."""
    FORK = "fork"
    """It shares a program's history, but not up to the end of a prompt."""
    REPEAT = "repeat"
    """It is an earlier prompt once more: the same step."""


class Kin(NamedTuple):
    """Where a prompt belongs."""

    relation: Relation
    program: str = ""
    """Its name; empty for a new program that was not entered."""
    step: int = 0
    """Number of the prompt in its program, from 1 on; 0: not entered, or its program has too many to remember."""
    parent: int = 0
    """Number of the step that it follows; 0: none, or unknown."""
    repeats: int = 0
    """How often the same prompt came just before, with no other of the program in between."""
    shared_blocks: int = 0
    """Full blocks of the prompt that the program is known to have sent before."""


@dataclass(slots=True, frozen=True)
class LineageLimits:
    """What is remembered, and how prompts are judged."""

    max_programs: int = 100_000
    max_bytes: int = 256 << 20
    """Estimated."""
    max_steps: int = 4096
    """Of one program; prompts after them are recognised by them, and not remembered."""
    idle_s: float = 3600.0
    """A program without calls is forgotten after this."""
    burst_s: float = 0.5
    """Prompts that come within this time are a fan-out."""
    own_blocks: int = 16
    """See the module."""
    max_bursts: int = 16
    """Out of one opening."""


@dataclass(slots=True)
class KnownStep:
    """What is kept of a prompt."""

    parent: int
    branch: int
    """Number of the first step that took the same way out of the opening."""
    tokens: int
    seen_s: float
    followers: int = 0
    """Prompts that begin with it."""
    laid: Entries | None = None
    """Its marks; None: not laid yet."""


@dataclass(slots=True, eq=False)
class KnownProgram:
    """What is kept of a program that was inferred."""

    key: tuple[str, str]
    number: int
    opening_blocks: int
    own_blocks: int
    """Prompts that share so much of the opening are its own: the least that a branch of it shared."""
    seen_s: float
    burst_s: float
    """When the last burst out of the opening began."""
    bursts: int = 0
    newest_branch: int = 0
    """First step of the last burst; 0: there was none but the first."""
    is_head: bool = False
    """The opening turned out to be others' too."""
    steps: list[KnownStep] = field(default_factory=list)
    size_bytes: int = 0
    last: int = 0
    """Number of the step that came last; 0: it was not remembered."""
    repeats: int = 0
    """How often that has come again since."""
    first: Newcomer | None = None
    """Its first call, until that is a step."""

    def step(self, number: int) -> KnownStep | None:
        """None for 0."""
        return self.steps[number - 1] if number else None


def repeated(program: KnownProgram, found: Found, now: float, limits: LineageLimits) -> Kin | None:
    """The kin of a prompt that ``program`` alone has sent before; None if it rather opens another program."""
    step = program.step(found.exact_step)
    if step is None or (step.parent == 0 and step.followers > 0 and now - step.seen_s > limits.burst_s):
        return None
    repeats = program.repeats + 1 if program.last == found.exact_step else 0
    return Kin(Relation.REPEAT, program.key[1], found.exact_step, step.parent, repeats, found.depth)


def joined(program: KnownProgram, found: Found, trail: Trail, now: float, limits: LineageLimits) -> Kin | None:
    """The kin of a prompt of which ``program`` alone has passed the deepest mark; None if it is not its own."""
    if not _is_own(program, found, now, limits):
        return None
    relation, parent = _relation(program, found, trail, now, limits)
    return Kin(relation, program.key[1], 0, parent, 0, found.depth)


def entered(program: KnownProgram, kin: Kin, trail: Trail, now: float, limits: LineageLimits) -> int:
    """Enters a prompt that is not a repeat. Returns its number."""
    number = len(program.steps) + 1
    parent = program.step(kin.parent)
    if kin.relation is Relation.EXTENSION and parent is not None and kin.shared_blocks >= program.opening_blocks:
        program.is_head |= parent.branch < program.newest_branch
    branches = kin.shared_blocks <= program.opening_blocks
    if branches and kin.relation is not Relation.NEW:
        program.own_blocks = min(program.own_blocks, kin.shared_blocks)
        if now - program.burst_s > limits.burst_s:
            program.burst_s, program.newest_branch = now, number
            program.bursts += 1
    if parent is not None and kin.relation is not Relation.FORK:
        parent.followers += 1
    branch = number if branches or parent is None else parent.branch
    program.steps.append(KnownStep(kin.parent, branch, trail.tokens, now))
    return number


def _is_own(program: KnownProgram, found: Found, now: float, limits: LineageLimits) -> bool:
    if found.depth > program.opening_blocks:
        return True
    if program.is_head:
        return False
    if now - program.burst_s <= limits.burst_s:
        parts_where_others_did = 2 * found.depth >= program.own_blocks
        return parts_where_others_did or program.own_blocks == program.opening_blocks
    if program.bursts >= limits.max_bursts:
        return False
    beyond_head = found.depth - found.common if found.common >= limits.own_blocks else 0
    return beyond_head >= limits.own_blocks or found.depth >= program.own_blocks or found.end == END


def _relation(
    program: KnownProgram, found: Found, trail: Trail, now: float, limits: LineageLimits
) -> tuple[Relation, int]:
    """With the number of the step that the prompt follows. What comes within a burst does not follow another of it,
    unless it begins with all of that."""
    step, last = program.step(found.step), program.step(program.last)
    if found.end and step is not None:
        together = now - step.seen_s <= limits.burst_s
        if found.depth == len(trail.hashes) and (together or trail.tokens <= step.tokens):
            return Relation.SIBLING, step.parent
        if found.end == END or not together:
            return (Relation.SIBLING if step.followers else Relation.EXTENSION), found.step
    if last is not None and now - last.seen_s <= limits.burst_s:
        return Relation.FORK, last.parent
    return Relation.FORK, program.last
