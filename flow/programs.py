"""What is remembered of each program: bounded in number, and forgotten after a time without use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from router.core.flow import ProgramKey

_Entry = TypeVar("_Entry")


@dataclass(slots=True)
class _Kept(Generic[_Entry]):
    entry: _Entry
    used_s: float


class LruByProgram(Generic[_Entry]):
    """An entry per program, least recently used first."""

    def __init__(self, make: Callable[[], _Entry], capacity: int = 100_000, idle_s: float = 3600.0) -> None:
        """At most ``capacity`` programs; one that was not used for ``idle_s`` counts as new when it comes back."""
        if capacity < 1 or idle_s <= 0:
            raise ValueError(f"capacity must be at least 1 and idle_s above 0, not {capacity} and {idle_s}")
        self._make = make
        self._capacity = capacity
        self._idle_s = idle_s
        self._kept: dict[ProgramKey, _Kept[_Entry]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[tuple[ProgramKey, _Entry]]:
        return ((key, kept.entry) for key, kept in self._kept.items())

    def use(self, key: ProgramKey, now: float) -> _Entry:
        """The program's entry, made if there is none. The program counts as used now."""
        kept = self._kept.pop(key, None)
        if kept is None or kept.used_s + self._idle_s <= now:
            kept = _Kept(self._make(), now)
        kept.used_s = now
        self._kept[key] = kept
        self._forget(now)
        return kept.entry

    def find(self, key: ProgramKey) -> _Entry | None:
        """The program's entry, if there is one. It does not count as used."""
        kept = self._kept.get(key)
        return None if kept is None else kept.entry

    def drop(self, key: ProgramKey) -> None:
        """Forgets a program, if it is known."""
        self._kept.pop(key, None)

    def _forget(self, now: float) -> None:
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            if len(self._kept) <= self._capacity and kept.used_s + self._idle_s > now:
                return
            del self._kept[key]
