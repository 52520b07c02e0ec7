"""What there is to compare, a line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sim.engine import load_profile, profile_names
from sim.policies.catalogue import POLICIES
from sim.workloads.hints import describe_hint, hint_names
from sim.workloads.registry import describe, workload_names


def listing() -> str:
    """Workloads, policies, engine profiles and hints."""
    sections = {
        "Workloads": [(name, describe(name)) for name in workload_names()],
        "Policies": [(policy.name, policy.line) for policy in POLICIES.values()],
        "Engine profiles": [(name, load_profile(name).description) for name in profile_names()],
        "Hints": [(name, describe_hint(name)) for name in hint_names()],
    }
    return "\n\n".join("\n".join(_section(title, entries)) for title, entries in sections.items())


def _section(title: str, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    entries = list(entries)
    width = max(len(name) for name, _ in entries)
    yield title
    for name, line in entries:
        yield f"  {name:<{width}}  {line}"
