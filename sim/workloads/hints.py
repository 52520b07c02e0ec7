"""Hints: what a client tells the router of a call's program, in full, in part, wrong on purpose, or not at all.

A hint fills in the fields of a request from the seed, the program and the step alone, as a client would that has the
program's graph at hand: a call is hinted alike in every run, whatever became of the calls before it. Sub-agents belong
to the program that started them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from router.core.types import ProgramHint, Request
from sim.workloads.outline import Outlines
from sim.workloads.program import Program, Step

Hint = Callable[[Request, Program, Step], None]
"""Tells the router what the client knows of a call's program, by filling in the request's fields."""

_WRONG_FACTORS = (0.1, 0.25, 4.0, 10.0)
_WRONG_FINALS = 0.25


def no_hint(request: Request, program: Program, step: Step) -> None:
    """The client tells nothing."""


def session_hint(request: Request, program: Program, step: Step) -> None:
    """The least that an agent tells: which session a call belongs to."""
    request.session_id = program.id


def full_hint() -> Hint:
    """Session, tenant, and all that the graph says."""
    outlines = Outlines()

    def tell(request: Request, program: Program, step: Step) -> None:
        place = outlines.of(program)[step.name]
        request.session_id = program.id
        request.tenant = program.tenant
        request.program = ProgramHint(
            id=program.id,
            step=step.name,
            after=step.after,
            join=place.join,
            width=place.width,
            kind=program.kind,
            remaining_steps=place.remaining_steps,
            output_tokens=step.output_tokens,
            final=place.final,
        )

    return tell


def partial_hint(seed: int, share: float) -> Hint:
    """All of it for a share of the calls, drawn one by one, and session and tenant for the others: a fleet where some
    agents are instrumented and some send what their framework sends. Every call still names its program, by its
    session."""
    tell_all = full_hint()

    def tell(request: Request, program: Program, step: Step) -> None:
        tell_all(request, program, step)
        if _random(seed, program, step).random() >= share:
            request.program = None

    return tell


def wrong_hint(seed: int, share: float) -> Hint:
    """Full hints, of which a share is a `mistake`."""
    tell_all = full_hint()

    def tell(request: Request, program: Program, step: Step) -> None:
        tell_all(request, program, step)
        rng = _random(seed, program, step)
        if request.program is not None and rng.random() < share:
            request.program = mistake(request.program, program, rng)

    return tell


def mistake(right: ProgramHint, program: Program, rng: Random) -> ProgramHint:
    """A hint that is right about who is calling and wrong about the rest: an answer 4 or 10 times too long or short,
    another number of steps left, a join that never comes or one kept quiet, other steps before this one, which may be
    later ones or itself. One in four is also wrong about being the last."""
    names = [step.name for step in program.steps]
    claimed = tuple(rng.sample(names, rng.randint(1, min(3, len(names)))))
    join, width = ("", 0) if right.join else (f"never-{rng.choice(names)}", rng.randint(2, 16))
    left = rng.randrange(2 * len(names))
    return replace(
        right,
        after=claimed if set(claimed) != set(right.after) else (),
        join=join,
        width=width,
        remaining_steps=left if left != right.remaining_steps else left + 1,
        output_tokens=_misjudged(right.output_tokens or 1, rng),
        final=right.final != (rng.random() < _WRONG_FINALS),
    )


def _misjudged(tokens: int, rng: Random) -> int:
    guess = max(1, round(tokens * rng.choice(_WRONG_FACTORS)))
    return guess if guess != tokens else 10 * tokens


def _random(seed: int, program: Program, step: Step) -> Random:
    return Random(f"{seed}/hint/{program.id}/{step.name}")


@dataclass(slots=True, frozen=True)
class _Mode:
    line: str
    make: Callable[[int, float], Hint]
    share: float | None = None
    """Of the calls it is about, unless told otherwise. None: it is about all."""


_MODES = {
    "full": _Mode("session, tenant, and all that the program's graph says", lambda seed, share: full_hint()),
    "partial": _Mode("all of it for a share of the calls, session and tenant for the others", partial_hint, 0.5),
    "wrong": _Mode("all of it, but for a share of the calls wrong about all except who is calling", wrong_hint, 0.3),
    "session": _Mode("which session a call belongs to", lambda seed, share: session_hint),
    "none": _Mode("nothing", lambda seed, share: no_hint),
}


def hint_names() -> list[str]:
    return list(_MODES)


def describe_hint(name: str) -> str:
    """What the client tells, in a line. Raises ValueError when there are no hints of that name."""
    mode = _find(name)
    return mode.line if mode.share is None else f"{mode.line} (share {mode.share})"


def make_hint(name: str, seed: int = 0, share: float | None = None) -> Hint:
    """Hints by name. ``share``: of the calls, that ``partial`` tells all of and ``wrong`` is wrong about.

    Raises ValueError when there are none of that name, or it takes no share, or the share is not within 0..1.
    """
    mode = _find(name)
    if share is not None and mode.share is None:
        raise ValueError(f"hints {name!r} are the same for all calls: leave the share out")
    share = mode.share if share is None else share
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"the share of hinted calls is from 0 to 1, not {share}")
    return mode.make(seed, share or 0.0)


def _find(name: str) -> _Mode:
    found = _MODES.get(name)
    if found is None:
        raise ValueError(f"no hints {name!r}: give one of {', '.join(_MODES)}")
    return found
