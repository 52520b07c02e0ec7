"""For agents: the headers that tell Weft which calls are one run, what each follows, and what waits for it.

Needs the standard library alone. No name makes it raise: names are percent-encoded and cut to what Weft reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextvars import ContextVar
from hashlib import blake2b
from threading import Lock
from time import monotonic
from urllib.parse import quote

from router.hints.values import MAX_DEADLINE_S, MAX_NAME_CHARS, MAX_NAMES

_SAFE = "".join(map(chr, range(0x20, 0x7F))).replace(",", "")
_MAX_AFTER_CHARS = 4096
"""Servers bound the size of all headers."""


class Program:
    """One run of an agent. ``name`` begins its id and, without a ``kind``, is its class.

    Programs made inside its ``with`` are its sub-agents, also in tasks that are started there. A bare thread knows no
    ``with``: in one, give ``parent``, an id. ``step`` may be called from any thread.
    """

    def __init__(
        self,
        name: str,
        *,
        run_id: str = "",
        kind: str = "",
        parent: str = "",
        deadline_s: float | None = None,
        priority: int | None = None,
    ) -> None:
        self._outer = _current.get()
        self.id = _encoded(run_id) or _encoded(f"{name}-{os.urandom(8).hex()}")
        parent = _encoded(parent) or (self._outer.id if self._outer else "")
        urgency = _whole(priority, -1_000_000, 1_000_000)
        self._said = {"id": self.id, "class": _encoded(kind or name), "parent": parent, "priority": urgency}
        self._ends_s = None if deadline_s is None else monotonic() + deadline_s
        self._uses: dict[str, int] = {}
        self._open: dict[str, str] = {}  # steps that none follows yet, each with its join
        self._joins: dict[str, tuple[list[str], str]] = {}  # what its siblings follow, and its name in the headers
        self._lock = Lock()

    @staticmethod
    def current() -> Program | None:
        """The innermost program whose ``with`` this task or thread is in."""
        return _current.get()

    def __enter__(self) -> Program:
        self._outer = _current.get()
        _current.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _current.set(self._outer)

    def headers(self) -> dict[str, str]:
        """What is true of every call, for clients that take headers only once."""
        left_ms = None if self._ends_s is None else (self._ends_s - monotonic()) * 1000
        return _headers(self._said | {"deadline-ms": _whole(left_ms, 0, MAX_DEADLINE_S * 1000)})

    def step(
        self,
        name: str = "",
        *,
        after: Iterable[str] | None = None,
        join: str = "",
        width: int | None = None,
        remaining: int | None = None,
        output_tokens: int | None = None,
        final: bool = False,
    ) -> dict[str, str]:
        """The headers of the next call. It follows every step that none follows yet, unless ``after`` says better.

        A name that comes again gets a number. Calls with the same ``join`` are siblings, ``width`` of them, that follow
        what the first one does; ``join`` is the name of the step that waits for them. ``remaining``: calls left on the
        longest path after this one. ``output_tokens``: expected. ``final``: nothing follows.
        """
        with self._lock:
            step, before, join = self._place(_encoded(name) or "call", after, _encoded(join))
        said = {"step": step, "after": _listed(before), "join": join, "final": "true" if final else ""}
        said |= {"width": _whole(width, 1, 10_000), "remaining": _whole(remaining, 0, 100_000)}
        return self.headers() | _headers(said | {"output-tokens": _whole(output_tokens, 1, 10_000_000)})

    def _place(self, name: str, after: Iterable[str] | None, join: str) -> tuple[str, list[str], str]:
        """Enters a step. Returns its name, what it follows, and its join's name."""
        step = self._unused(name)
        self._uses[name] = self._uses.get(name, 0) + 1
        self._uses.setdefault(step, 1)
        before, _ = self._joins.get(join) or (list(self._open), "")
        if after is not None:
            before = [_encoded(each) for each in after]
        for each in before:
            self._joins.pop(self._open.pop(each, ""), None)
        self._open[step] = join
        return step, before, self._joins.setdefault(join, (before, self._unused(join)))[1] if join else ""

    def _unused(self, name: str) -> str:
        number, unused = self._uses.get(name, 0), name
        while unused in self._uses:
            number += 1
            unused = _encoded(f"{name}-{number}")
        return unused


_current: ContextVar[Program | None] = ContextVar("program", default=None)


def _headers(said: dict[str, str]) -> dict[str, str]:
    return {f"x-program-{what}": value for what, value in said.items() if value}


def _encoded(name: str) -> str:
    """Printable ASCII without commas. Long names are cut and stay apart; what is encoded already stays as it is."""
    text = quote(str(name).strip(), safe=_SAFE, errors="surrogatepass")
    return text if len(text) <= MAX_NAME_CHARS else f"{text[:220]}~{blake2b(text.encode(), digest_size=12).hexdigest()}"


def _listed(names: list[str]) -> str:
    """The last names for which there is room."""
    text = ",".join(names[-MAX_NAMES:])
    return text if len(text) <= _MAX_AFTER_CHARS else text[-_MAX_AFTER_CHARS:].partition(",")[2]


def _whole(value: float | None, low: float, high: float) -> str:
    return "" if value is None else str(int(min(max(low, value), high)))
