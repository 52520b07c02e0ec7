"""One row of results: what a run was like for programs, requests, caches and replicas.

``prefix_hit_rate`` is cached over all prompt tokens. ``recomputed_tokens`` were computed although some replica had
computed them before, in a prompt or before a preemption. ``imbalance`` is the most over the mean of prompt tokens
computed by a replica; ``busy_imbalance`` the same of its time. ``gpu_s_per_program`` is the replicas' busy time, a
replica counting as one GPU. A call is good when it kept the limits of `Slo`. Contexts and fairness have their modules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sim.bench.measure_context import hit_rate_by_context, kv_share_by_context
from sim.bench.measure_disaggregation import disaggregation
from sim.bench.measure_fairness import fairness
from sim.bench.spread import spread
from sim.cluster import CallRecord, Run
from sim.engine import StepTime

Row = dict[str, object]


@dataclass(slots=True, frozen=True)
class Slo:
    """What users put up with."""

    ttft_s: float = 2.0
    tpot_s: float = 0.05
    program_s: float = math.inf
    """For the program that a call belongs to."""


def measure(run: Run, step_time: StepTime, slo: Slo | None = None, counted: Run | None = None) -> Row:
    """All figures of a run. Equal runs give equal rows: the routers' CPU time, which differs, is not among them.

    ``counted``: the calls and programs that times, goodput and fairness are of, if not of all. Caches and replicas are
    those of the whole run.
    """
    counted = counted or run
    calls = counted.calls
    row: Row = {"replicas": len(run.replicas), "requests": len(run.calls), "programs": len(run.programs)}
    row["counted_programs"] = len(counted.programs)
    row |= spread("completion", (program.completion_s for program in counted.programs))
    row |= spread("ttft", (call.ttft_s for call in calls))
    row |= spread("tpot", (tpot_s for call in calls if (tpot_s := call.tpot_s) is not None))
    row |= spread("e2e", (call.e2e_s for call in calls))
    row |= spread("queue_wait", (call.queue_wait_s for call in calls))
    row |= _caches(run)
    row |= _replicas(run)
    row |= disaggregation(run, counted)
    row |= fairness(counted, step_time)
    row["goodput_fraction"] = _good_share(counted, slo or Slo())
    row["output_tokens_per_s"] = _ratio(sum(call.output_tokens for call in run.calls), run.makespan_s)
    row["makespan_s"] = run.makespan_s
    row["refusals"] = sum(call.refusals for call in run.calls)
    return row


def imbalance(amounts: Sequence[float]) -> float:
    """The most over the mean; 1 when all are equal."""
    return _ratio(max(amounts) * len(amounts), sum(amounts)) or 1.0


def _caches(run: Run) -> Row:
    calls = run.calls
    prompt_tokens = sum(call.prompt_tokens for call in calls)
    return {
        "prompt_tokens": prompt_tokens,
        "prefix_hit_rate": _ratio(sum(call.cached_tokens for call in calls), prompt_tokens),
        "expected_hit_rate": _ratio(sum(call.expected_cached_tokens for call in calls), prompt_tokens),
        "recomputed_tokens": sum(call.recomputed_tokens for call in calls) + _computed_after_preemption(run),
        "zero_recompute_rate": _ratio(sum(not call.recomputed_tokens for call in calls), len(calls)),
        "hit_rate_by_context": hit_rate_by_context(calls),
        "kv_share_by_context": kv_share_by_context(calls),
    }


def _replicas(run: Run) -> Row:
    prefilled = [0.0] * len(run.replicas)
    for call in run.calls:
        prefilled[call.computing_replica] += call.prompt_tokens - call.cached_tokens
    busy_s = [replica.busy_s for replica in run.replicas]
    return {
        "kv_usage": sum(replica.mean_kv_usage for replica in run.replicas) / len(run.replicas),
        "preemptions": sum(replica.preemptions for replica in run.replicas),
        "imbalance": imbalance(prefilled),
        "busy_imbalance": imbalance(busy_s),
        "gpu_s_per_program": _ratio(sum(busy_s), len(run.programs)),
        "utilisation": _ratio(sum(busy_s), len(run.replicas) * run.makespan_s),
    }


def _computed_after_preemption(run: Run) -> int:
    """Whatever the engines computed beyond each call once. The last token of an answer is never computed."""
    once = sum(call.prompt_tokens + call.output_tokens - 1 - call.cached_tokens for call in run.calls)
    return sum(replica.computed_tokens for replica in run.replicas) - once


def _good_share(run: Run, slo: Slo) -> float:
    in_time = {program.program.id for program in run.programs if program.completion_s <= slo.program_s}
    return _ratio(sum(_is_good(call, slo) and call.program.id in in_time for call in run.calls), len(run.calls))


def _is_good(call: CallRecord, slo: Slo) -> bool:
    return call.ttft_s <= slo.ttft_s and (call.tpot_s or 0.0) <= slo.tpot_s


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
