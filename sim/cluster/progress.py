"""How far a program has come: which of its steps may be sent."""

from __future__ import annotations

from collections import defaultdict

from sim.cluster.tokens import Renderer
from sim.workloads.program import Program, Step


class Progress:
    """One program under way. Raises ValueError when a step follows one that is not before it."""

    def __init__(self, program: Program, started_s: float, renderer: Renderer) -> None:
        self.program = program
        self.started_s = started_s
        self.renderer = renderer
        self._unmet: dict[str, int] = {}
        """Steps that did not end yet, with the number of steps that each still waits for."""
        self._followers: defaultdict[str, list[Step]] = defaultdict(list)
        for step in program.steps:
            before = set(step.after)
            if step.name in self._unmet or not before <= self._unmet.keys():
                raise ValueError(
                    f"program {program.id!r}, step {step.name!r}: "
                    "step names must be unique, and `after` must name earlier steps"
                )
            self._unmet[step.name] = len(before)
            for name in before:
                self._followers[name].append(step)

    @property
    def complete(self) -> bool:
        return not self._unmet

    def first_steps(self) -> list[Step]:
        """Those that follow nothing."""
        return [step for step in self.program.steps if not step.after]

    def ended(self, step: Step) -> list[Step]:
        """The steps that waited for this one last."""
        del self._unmet[step.name]
        ready = []
        for follower in self._followers.pop(step.name, ()):
            self._unmet[follower.name] -= 1
            if not self._unmet[follower.name]:
                ready.append(follower)
        return ready
