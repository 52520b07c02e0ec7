"""What the demo compares: routers that differ in an option of `weft serve`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Way:
    key: str
    title: str
    line: str
    """What it is."""
    options: tuple[str, ...] = ()


COMPARED = (
    Way("round_robin", "round robin", "each replica in turn", ("--profile=round-robin",)),
    Way("kv_aware", "KV-aware", "weft serve: to the replica that holds the prefix, unless it is too busy"),
    Way(
        "programs",
        "programs",
        "weft serve --programs: the same, and agents wait until their contexts fit the caches",
        ("--programs",),
    ),
)
"""The first is what the others are compared with."""
