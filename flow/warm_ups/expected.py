"""Whether a program in a tool wait goes on, and when it is expected back."""

from __future__ import annotations

from flow.admission.returns import expected_return_s
from router.core.programs.step import State, Step

_LEAST_CALLS = 1.0


def goes_on(step: Step) -> bool:
    """Whether at least one more call is expected after ``step``, which was the last one open."""
    program = step.program
    return not program.open and not program.final and program.remaining_calls >= _LEAST_CALLS


def expected_back_s(step: Step, away_s: float) -> float:
    """Seconds until the program's next call, ``away_s`` after ``step`` ended: as a declared step that is next tells its
    tool's time, else by what other calls waited."""
    declared = [
        each.wait_s
        for each in step.program.steps.values()
        if each.state is State.EXPECTED and each.declared and not each.waits_for and each.ready_s == step.ended_s
    ]
    return max(min(declared) - away_s, 0.0) if declared else expected_return_s(step, away_s)
