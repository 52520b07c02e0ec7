"""Who waits for whom: how much slower programs are than alone, and whether all suffer alike.

A program's bound is its critical path on an idle replica that has every prompt cached: tool waits and decoding, no
prefill. Its progress is the bound over its completion time, within 0..1. Jain's index of shares ``x`` is
``sum(x)^2 / (n * sum(x^2))``: 1 when all are equal, ``1/n`` when one has everything (Jain, Chiu, Hawe, 1984).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sim.cluster import Run
from sim.engine import StepTime, Work
from sim.engine.step_time import PS_PER_S
from sim.workloads.program import Program, Step


def fairness(run: Run, step_time: StepTime) -> dict[str, object]:
    """Jain's index over programs and over tenants (of the mean progress of their programs), and the mean slowdown."""
    by_tenant: defaultdict[str, list[float]] = defaultdict(list)
    progress = []
    for record in run.programs:
        progress.append(bound_s(record.program, step_time) / record.completion_s)
        by_tenant[record.program.tenant].append(progress[-1])
    return {
        "jain_programs": jain(progress),
        "jain_tenants": jain([sum(shares) / len(shares) for shares in by_tenant.values()]),
        "slowdown_mean": sum(1 / share for share in progress) / len(progress) if progress else 0.0,
    }


def jain(shares: Sequence[float]) -> float:
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def bound_s(program: Program, step_time: StepTime) -> float:
    """The least time that the program can take."""
    ends_s: dict[str, float] = {}
    for step in program.steps:
        ready_s = max((ends_s[name] for name in step.after), default=0.0)
        ends_s[step.name] = ready_s + step.wait_s + decode_s(step, step_time)
    return max(ends_s.values(), default=0.0)


def decode_s(step: Step, step_time: StepTime) -> float:
    """Decoding all of its output tokens, alone."""
    count = step.output_tokens
    first = Work(decode_seqs=1, context_tokens=step.prompt_tokens)
    grown = step_time.context_token_ps * count * (count - 1) // 2
    return (count * step_time.duration_ps(first) + grown) / PS_PER_S
