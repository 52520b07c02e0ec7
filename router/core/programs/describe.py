"""A program as plain data, for whoever wants to look at it. Times are seconds; points in time count from the program's
first sign of life, and deadlines from now."""

from __future__ import annotations

from typing import Any

from router.core.programs.program import Program
from router.core.programs.step import Step

_FEW = 8


def summarise(program: Program, now: float) -> dict[str, Any]:
    """One line of a list."""
    return {
        "tenant": program.key[0],
        "id": program.key[1],
        "class": program.kind,
        "parent": program.parent,
        "state": state_of(program),
        "age_s": now - program.first_seen_s,
        "idle_s": 0.0 if program.open else now - program.last_seen_s,
        "deadline_in_s": None if program.deadline_s is None else program.deadline_s - now,
        "priority": program.priority,
        "calls": program.calls,
        "waiting": program.waiting,
        "running": program.running,
        "attained_s": program.attained_s,
        "waited_s": program.waited_s,
        "computed_tokens": program.computed_tokens,
        "cached_tokens": program.cached_tokens,
        "output_tokens": program.output_tokens,
        "recomputed_tokens": program.recomputed_tokens,
        "remaining_path_s": program.remaining_path_s,
        "remaining_work_s": program.remaining_work_s,
        "remaining_calls": program.remaining_calls,
    }


def summarise_step(step: Step) -> dict[str, Any]:
    """A step as an explanation of a decision names it."""
    program = step.program
    return {
        "id": program.key[1],
        "class": program.kind,
        "step": step.name,
        "after": list(step.after[:_FEW]),
        "call": program.calls,
        "path_s": round(step.path_s, 4),
        "remaining_path_s": round(program.remaining_path_s, 4),
        "remaining_work_s": round(program.remaining_work_s, 4),
        "estimate": str(program.source),
    }


def describe(program: Program, now: float) -> dict[str, Any]:
    """All that is known of it, its graph included."""
    steps = sorted(program.steps.values(), key=_by_coming)
    return {
        **summarise(program, now),
        "declared": program.declared,
        "final": program.final,
        "estimate": {
            "source": str(program.source),
            "evidence": program.evidence,
            "likely_calls_left": {
                "p10": program.likely_calls_left(0.1),
                "p50": program.likely_calls_left(0.5),
                "p90": program.likely_calls_left(0.9),
            },
            "hints": program.told,
            "contradicted_hints": program.contradicted,
        },
        "steps": [_step(step) for step in steps],
        "dropped_steps": program.dropped_steps,
    }


STATES = ("running", "waiting", "idle", "finished")


def state_of(program: Program) -> str:
    """One of `STATES`."""
    if program.running:
        return "running"
    if program.waiting:
        return "waiting"
    return "idle" if program.finished_s is None else "finished"


def _by_coming(step: Step) -> tuple[float, int]:
    return (float("inf") if step.came_s is None else step.came_s), step.number


def _step(step: Step) -> dict[str, Any]:
    program = step.program
    came = step.tries > 0

    def since(time_s: float | None) -> float | None:
        return None if time_s is None else time_s - program.first_seen_s

    join = step.join
    return {
        "name": step.name,
        "state": str(step.state),
        "after": list(step.after),
        "declared": step.declared,
        "join": None if join is None else {"name": join.name, "width": join.width, "left": join.left},
        "tries": step.tries,
        "came_s": since(step.came_s),
        "dispatched_s": since(step.dispatched_s),
        "started_s": since(step.started_s),
        "ended_s": since(step.ended_s),
        "prompt_tokens": step.prompt_tokens if came else None,
        "cached_tokens": step.cached_tokens if step.dispatched_s is not None else None,
        "computed_tokens": step.prompt_tokens - step.cached_tokens if step.dispatched_s is not None else None,
        "output_tokens": step.output_tokens,
        "expected_wait_s": step.wait_s,
        "expected_s": step.time_s,
        "rank_s": step.path_s,
    }
