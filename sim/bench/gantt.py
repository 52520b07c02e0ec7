"""One program of a run, step by step, to be drawn under two policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sim.bench.measure import Row
from sim.cluster import CallRecord, Run
from sim.workloads.program import Program

_BASELINE = "round-robin"
_OURS = "weft"
_SIZE = 0.75


def follow(run: Run) -> Row:
    """Name and steps of a program of the run, in the order in which they were sent: the same program whatever the
    policy. Times are seconds since its start."""
    program = _chosen([record.program for record in run.programs])
    started_s = next(record.started_s for record in run.programs if record.program.id == program.id)
    calls = sorted((call for call in run.calls if call.program.id == program.id), key=lambda call: call.sent_s)
    return {"program": program.id, "steps": [_step(call, started_s) for call in calls]}


def compare(workload: str, load: float | None, seed: int, followed: Mapping[str, Row], best_first: list[str]) -> Row:
    """A Gantt chart's figures. ``followed`` by policy, at least two of them; ``best_first`` ranks these policies.

    Shown are round robin, or the worst, against Weft, or the best.
    """
    second = _OURS if _OURS in followed else next(name for name in best_first if name != _BASELINE)
    first = _BASELINE if _BASELINE in followed else next(name for name in reversed(best_first) if name != second)
    return {
        "workload": workload,
        "program": followed[first]["program"],
        "load": load,
        "seed": seed,
        "policies": {name: followed[name]["steps"] for name in (first, second)},
    }


def _chosen(programs: Iterable[Program]) -> Program:
    """Of those that came in the middle third, one that has more steps than three in four."""
    arrived = sorted(programs, key=lambda program: (program.arrival_s, program.id))
    third = len(arrived) // 3
    by_size = sorted(arrived[third : len(arrived) - third], key=lambda program: (len(program.steps), program.id))
    return by_size[int(_SIZE * len(by_size))]


def _step(call: CallRecord, started_s: float) -> Row:
    return {
        "step": call.step.name,
        "agent": call.step.agent,
        "sent_s": call.sent_s - started_s,
        "scheduled_s": call.scheduled_s - started_s,
        "first_token_s": call.first_token_s - started_s,
        "ended_s": call.ended_s - started_s,
        "replica": call.replica,
        "after": list(call.step.after),
        "cached_tokens": call.cached_tokens,
        "prompt_tokens": call.prompt_tokens,
    }
