"""A declared graph: what a client says of a whole program at once, and why it is refused.

{"class": "review", "deadline_ms": 60000, "priority": 1, "steps": [
    {"name": "plan", "output_tokens": 300},
    {"name": "search", "after": ["plan"], "tool_ms": 2000, "prompt_tokens": 9000, "class": "web"}]}
"""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

S = TypeVar("S")

MAX_EDGES = 16_384

_MAX_NAME = 256
_PRINTABLE = "^[ -~]*(?![^ -~])$"
_Name = Annotated[str, Meta(min_length=1, max_length=_MAX_NAME, pattern=_PRINTABLE)]
"""What a header can hold, since calls name their steps there."""
_Kind = Annotated[str, Meta(max_length=_MAX_NAME, pattern=_PRINTABLE)]
_Tokens = Annotated[int, Meta(ge=0, le=100_000_000)]
_Milliseconds = Annotated[float, Meta(ge=0, le=31_536_000_000)]
_LONGEST_CYCLE = 20
"""Steps of a cycle that are spelled out."""
_PLACE = re.compile(r"^(?P<message>.*?)(?: - at `\$?\.?(?P<place>.*)`)?$", re.DOTALL)


class DeclarationError(ValueError):
    """A declaration that is refused: ``place`` in the document, as ``steps[3].after[1]``, and why."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place
        self.message = message


class DeclaredStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "class"}):
    """One LLM call."""

    name: _Name
    after: tuple[_Name, ...] = ()
    """Steps that must end before this one, each declared too."""
    prompt_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    tool_ms: _Milliseconds | None = None
    """From the end of the last of ``after`` to this call: what the program does in between."""
    kind: _Kind = ""
    """Of agent or tool: steps with the same class are judged by the same history. Empty: by the name."""


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "class"}):
    """A program's graph, as `read_declaration` returns it: each step comes after those that it follows."""

    steps: tuple[DeclaredStep, ...]
    kind: _Kind = ""
    deadline_ms: _Milliseconds | None = None
    """From now."""
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0


def read_declaration(document: object, max_steps: int = 4096) -> Declaration:
    """Checks parsed JSON. Raises DeclarationError: wrong or unknown fields, two steps of one name, a step that follows
    one that is not declared, a cycle, more than ``max_steps`` steps or 16,384 edges."""
    steps = document.get("steps") if isinstance(document, dict) else None
    if not isinstance(steps, list) or not isinstance(document, dict):
        _convert(document, Declaration, "")
        raise DeclarationError("steps", "expected an array of steps")
    if len(steps) > max_steps:
        raise DeclarationError("steps", f"{len(steps):,} steps, at most {max_steps:,} are accepted")
    if not steps:
        raise DeclarationError("steps", "a program has at least one step")
    read = tuple(_read_step(step, f"steps[{number}]") for number, step in enumerate(steps))
    declaration = _convert({**document, "steps": []}, Declaration, "")
    _check_edges(read)
    return msgspec.structs.replace(declaration, steps=_in_order(read))


def _in_order(steps: tuple[DeclaredStep, ...]) -> tuple[DeclaredStep, ...]:
    """Raises DeclarationError for names and cycles."""
    numbers = _numbers(steps)
    followers: list[list[int]] = [[] for _ in steps]
    unmet = [0] * len(steps)
    for number, step in enumerate(steps):
        for position, name in enumerate(step.after):
            before = numbers.get(name)
            if before is None:
                raise DeclarationError(f"steps[{number}].after[{position}]", f"no step is named {name!r}")
            if followers[before] and followers[before][-1] == number:
                raise DeclarationError(f"steps[{number}].after[{position}]", f"{name!r} is named twice")
            followers[before].append(number)
        unmet[number] = len(step.after)
    order = [number for number, count in enumerate(unmet) if count == 0]
    for number in order:
        for follower in followers[number]:
            unmet[follower] -= 1
            if unmet[follower] == 0:
                order.append(follower)
    if len(order) < len(steps):
        raise _cycle(steps, numbers, unmet)
    return tuple(steps[number] for number in order)


def _read_step(document: object, place: str) -> DeclaredStep:
    after = document.get("after") if isinstance(document, dict) else None
    for position, name in enumerate(after if isinstance(after, list) else ()):
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
            raise DeclarationError(f"{place}.after[{position}]", f"expected the name of a step, not {name!r:.100}")
    return _convert(document, DeclaredStep, place)


def _convert(document: object, kind: type[S], place: str) -> S:
    """msgspec names the field that is wrong, but no positions in arrays."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        found = _PLACE.match(str(error))
        message, inner = (found["message"], found["place"] or "") if found else (str(error), "")
        if _PRINTABLE in str(error):
            message = "expected printable ASCII characters"
        raise DeclarationError(".".join(part for part in (place, inner) if part), message) from None


def _check_edges(steps: tuple[DeclaredStep, ...]) -> None:
    edges = 0
    for number, step in enumerate(steps):
        edges += len(step.after)
        if edges > MAX_EDGES:
            raise DeclarationError(f"steps[{number}].after", f"more than {MAX_EDGES:,} edges up to here")


def _numbers(steps: tuple[DeclaredStep, ...]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number, step in enumerate(steps):
        first = numbers.setdefault(step.name, number)
        if first != number:
            raise DeclarationError(f"steps[{number}].name", f"{step.name!r} is the name of steps[{first}] already")
    return numbers


def _cycle(steps: tuple[DeclaredStep, ...], numbers: dict[str, int], unmet: list[int]) -> DeclarationError:
    """Walks back from a step that is never ready, always to another such step, until one comes again."""
    number = next(number for number, count in enumerate(unmet) if count)
    seen: dict[int, int] = {}
    walk: list[int] = []
    while number not in seen:
        seen[number] = len(walk)
        walk.append(number)
        number = next(numbers[name] for name in steps[number].after if unmet[numbers[name]])
    cycle = [number, *reversed(walk[seen[number] :])]
    names = [steps[each].name for each in cycle]
    if len(names) > _LONGEST_CYCLE:
        names = [*names[: _LONGEST_CYCLE // 2], "...", *names[-_LONGEST_CYCLE // 2 :]]
    spelled = " -> ".join(names)
    closing, before = cycle[1], steps[cycle[0]].name
    position = steps[closing].after.index(before)
    return DeclarationError(f"steps[{closing}].after[{position}]", f"the steps follow each other in a cycle: {spelled}")
