"""What one request says, by where it says it: a header under its name, a body's field as ``body.`` and its path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

from router.hints.values import MalformedError, name

Value = TypeVar("Value")
Keys = tuple[str, ...]

BODY = "body."
"""What keys of body fields begin with, so that none is mistaken for a header."""


class Said:
    """Each value is read when it is asked for. One that is malformed is counted, and from then on was never said."""

    __slots__ = ("_values", "_warnings")

    def __init__(self, values: dict[str, object], warnings: Counter[str]) -> None:
        self._values = values
        self._warnings = warnings

    def among(self, ranks: Mapping[str, int]) -> list[str]:
        """The keys in ``ranks`` under which something is said, by rank."""
        found = [key for key in self._values if key in ranks]
        if len(found) > 1:
            found.sort(key=ranks.__getitem__)
        return found

    def read(self, key: str, reader: Callable[[object], Value]) -> Value | None:
        value = self._values.get(key)
        if value is None:
            return None
        try:
            return reader(value)
        except MalformedError as problem:
            self.refuse(key, str(problem))
            return None

    def refuse(self, key: str, reason: str) -> None:
        """Keys and reasons come from the tables of this package alone, so what is counted has a bound."""
        self._warnings[f"{key}: {reason}"] += 1
        del self._values[key]

    def name(self, keys: Keys) -> str:
        """The first name that is given under any of ``keys``, "" when there is none."""
        for key in keys:
            if key in self._values and (found := self.read(key, name)):
                return found
        return ""
