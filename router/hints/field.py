"""Fields: what a client may say of a call besides the program's name, as a row of a table."""

from __future__ import annotations

from typing import NamedTuple

from router.hints.values import Reader, duration, whole

PRIORITY = whole(-1_000_000, 1_000_000)
OUTPUT_TOKENS = whole(1, 10_000_000)
STEPS = whole(0, 100_000)
WIDTH = whole(0, 10_000)
MILLISECONDS = duration(0.001)
SECONDS = duration(1.0)


class Field(NamedTuple):
    """One place in which one thing is said."""

    key: str
    tells: str
    """The field of `ProgramHint` that it fills."""
    read: Reader
