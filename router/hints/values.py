"""Reads single values of hints: bounded, checked, and alike whether they come from a header or from JSON.

A header's value is bytes; JSON brings text, numbers, truth values, lists. Each reader raises MalformedError for what it
cannot be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

MAX_NAME_CHARS = 256
MAX_NAMES = 64
MAX_DEADLINE_S = 1_000_000.0
_MAX_LIST_BYTES = MAX_NAMES * (MAX_NAME_CHARS + 1)
_MAX_DIGITS = 15
_MAX_NUMBER = 10**_MAX_DIGITS
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,9})?")
_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no", ""})

Reader = Callable[[object], object]
"""Turns what was said into a value of a ProgramHint. Raises MalformedError."""


class MalformedError(Exception):
    """A value that cannot be this hint. Its text is one of the few reasons given here, never what the client sent."""


def name(value: object) -> str:
    """Of a program, a step, a class: up to 256 printable ASCII characters. Empty: nothing was said."""
    text = _text(value, MAX_NAME_CHARS)
    if not (text.isascii() and text.isprintable()):
        raise MalformedError("not printable ASCII")
    return text


def names(value: object) -> tuple[str, ...]:
    """Up to 64 names, separated by commas or in a list, each once and in the order given."""
    parts = value if isinstance(value, list) else _text(value, _MAX_LIST_BYTES).split(",", MAX_NAMES)
    if len(parts) > MAX_NAMES:
        raise MalformedError("too many")
    return tuple(dict.fromkeys(read for part in parts if (read := name(part))))


def whole(low: int, high: int) -> Callable[[object], int]:
    """A whole number from ``low`` to ``high``."""

    def read(value: object) -> int:
        number = _number(value)
        if not low <= number <= high:
            raise MalformedError("out of range")
        if number != int(number):
            raise MalformedError("not a whole number")
        return int(number)

    return read


def duration(unit_s: float) -> Callable[[object], float]:
    """Seconds, told in units of ``unit_s``: from 0 to 1,000,000 s, so that a point in time is not taken for one."""

    def read(value: object) -> float:
        seconds = _number(value) * unit_s
        if not 0 <= seconds <= MAX_DEADLINE_S:
            raise MalformedError("out of range")
        return seconds

    return read


def flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = _text(value, MAX_NAME_CHARS).lower()
    if word not in _TRUE and word not in _FALSE:
        raise MalformedError("not true or false")
    return word in _TRUE


def level(levels: Mapping[str, int]) -> Callable[[object], int]:
    """One of a few words that stand for numbers, in any case."""

    def read(value: object) -> int:
        found = levels.get(_text(value, MAX_NAME_CHARS).lower())
        if found is None:
            raise MalformedError("not a known word")
        return found

    return read


def _text(value: object, max_chars: int) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    elif type(value) is int and -(2**63) <= value < 2**64:
        value = str(value)
    if not isinstance(value, str):
        raise MalformedError("not a text")
    if len(value) > max_chars:
        raise MalformedError("too long")
    return value.strip(" \t")


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) < _MAX_NUMBER:
            raise MalformedError("out of range")
        return value
    if isinstance(value, bytes) and len(value) <= _MAX_DIGITS and value.isdigit():
        return int(value)
    text = _text(value, MAX_NAME_CHARS)
    if not _NUMBER.fullmatch(text):
        raise MalformedError("not a number")
    return float(text)
