"""What a program's graph says of its steps: who is waited for together, and how much is left after each."""

from __future__ import annotations

from dataclasses import dataclass

from sim.workloads.program import Program


@dataclass(slots=True, frozen=True)
class Place:
    """Of one step in its program."""

    join: str
    """The first step that waits for this one and for others too; empty when there is none."""
    width: int
    """How many steps that one waits for; 0 without a join."""
    remaining_steps: int
    """Calls on the longest path after this one."""
    final: bool
    """The program ends with it: nothing follows it, and something follows every other step."""


def outline(program: Program) -> dict[str, Place]:
    """The place of each step, by its name."""
    joins: dict[str, tuple[str, int]] = {}
    for step in program.steps:
        if len(step.after) > 1:
            for name in step.after:
                joins.setdefault(name, (step.name, len(step.after)))
    remaining = {step.name: 0 for step in program.steps}
    for step in reversed(program.steps):
        for name in step.after:
            remaining[name] = max(remaining[name], remaining[step.name] + 1)
    ends = sum(not left for left in remaining.values())
    return {
        name: Place(*joins.get(name, ("", 0)), left, final=ends == 1 and not left) for name, left in remaining.items()
    }


class Outlines:
    """Outlines of programs, each made once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Program, dict[str, Place]]] = {}

    def of(self, program: Program) -> dict[str, Place]:
        known = self._known.get(program.id)
        if known is None or known[0] is not program:
            known = self._known[program.id] = (program, outline(program))
        return known[1]
