"""Pages of a tenant's programs, filtered, the most recently active first.

A place in the list is the time when a program was last active and its name, so it stays where it is when that program
goes. One that becomes active while pages are turned moves to the front.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple
from urllib.parse import parse_qsl

from router.core.programs.describe import STATES, state_of
from router.core.programs.program import Program
from router.errors import ApiError

MAX_LIMIT = 100
_DEFAULT_LIMIT = 20
_MAX_PARAMETERS = 8
_PARAMETERS = ("after", "class", "limit", "state")


class Place(NamedTuple):
    last_seen_s: float
    name: str


class Page(NamedTuple):
    programs: Sequence[Program]
    next_after: str | None
    """What to ask for the next page with; None: this was the last."""


@dataclass(slots=True, frozen=True)
class Query:
    """What a client wants to see."""

    kind: str | None = None
    state: str | None = None
    limit: int = _DEFAULT_LIMIT
    after: Place | None = None

    def page(self, programs: Iterable[Program]) -> Page:
        """``programs``: the tenant's, most recently active first."""
        behind = programs if self.after is None else _behind(self.after, programs)
        found = list(islice(filter(self._fits, behind), self.limit + 1))
        if len(found) <= self.limit:
            return Page(found, None)
        last = found[self.limit - 1]
        return Page(found[: self.limit], f"{last.last_seen_s!r}~{last.key[1]}")

    def _fits(self, program: Program) -> bool:
        return (self.kind is None or program.kind == self.kind) and (
            self.state is None or state_of(program) == self.state
        )


def read_query(text: str) -> Query:
    """Raises ApiError 400 that names the parameter."""
    try:
        given = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS))
    except ValueError:
        raise ApiError(400, f"More than {_MAX_PARAMETERS} parameters.") from None
    for name in given:
        if name not in _PARAMETERS:
            raise ApiError(400, f"Unknown parameter; allowed: {', '.join(_PARAMETERS)}.", param=name[:100])
    state = given.get("state")
    if state is not None and state not in STATES:
        raise ApiError(400, f"state must be one of {', '.join(STATES)}.", param="state")
    return Query(given.get("class"), state, _limit(given.get("limit")), _after(given.get("after")))


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 3 or not 1 <= int(text) <= MAX_LIMIT:
        raise ApiError(400, f"limit must be a number from 1 to {MAX_LIMIT}.", param="limit")
    return int(text)


def _after(text: str | None) -> Place | None:
    if text is None:
        return None
    time_s, _, name = text.partition("~")
    try:
        return Place(float(time_s), name)
    except ValueError:
        raise ApiError(400, "after must be the next_after of a page before.", param="after") from None


def _behind(place: Place, programs: Iterable[Program]) -> Iterator[Program]:
    """Of those that were last active at the same time, those behind the one that is named, or all if that is gone."""
    together: list[Program] = []
    for program in programs:
        if program.last_seen_s > place.last_seen_s:
            continue
        if program.last_seen_s == place.last_seen_s:
            together.append(program)
            if program.key[1] == place.name:
                together.clear()
            continue
        yield from together
        together = []
        yield program
    yield from together
