"""The figures of a run, against runs that were made by hand."""

from __future__ import annotations

import pytest
from cluster_world import ENGINE, one_call, part
from engine_world import STEP_TIME

from sim.bench.measure import Slo, measure
from sim.bench.measure_fairness import bound_s, jain
from sim.cluster import CallRecord, ProgramRecord, ReplicaRecord, Run
from sim.workloads.program import Context, Part, Program, Step


def call(
    program: Program,
    *,
    replica: int = 0,
    sent_s: float = 0.0,
    times_s: tuple[float, float, float] = (1.0, 2.0, 4.0),
    cached_tokens: int = 0,
    recomputed_tokens: int = 0,
) -> CallRecord:
    """``times_s``: when it was scheduled, began to answer and ended."""
    step = program.steps[0]
    record = CallRecord(program, step, sent_s, 0, replica, cached_tokens)
    record.scheduled_s, record.first_token_s, record.ended_s = times_s
    record.prompt_tokens, record.output_tokens = step.prompt_tokens, step.output_tokens
    record.cached_tokens, record.recomputed_tokens = cached_tokens, recomputed_tokens
    return record


def run_of(calls: list[CallRecord], computed_tokens: list[int]) -> Run:
    programs = [ProgramRecord(one.program, one.sent_s, one.ended_s) for one in calls]
    replicas = [ReplicaRecord(2.0 + i, tokens, 0, 0.5) for i, tokens in enumerate(computed_tokens)]
    return Run(calls, programs, replicas)


TOOLS = Part(Context.TOOLS, 1, 60)
FIRST = one_call("first", TOOLS, part(2, 40), output_tokens=5)
SECOND = one_call("second", TOOLS, part(3, 20), output_tokens=5)


def two_calls() -> Run:
    calls = [
        call(FIRST, cached_tokens=0, times_s=(1.0, 2.0, 4.0)),
        call(SECOND, replica=1, sent_s=1.0, cached_tokens=64, recomputed_tokens=8, times_s=(1.5, 4.0, 5.0)),
    ]
    return run_of(calls, [104, 20])


def test_times_are_those_of_the_client() -> None:
    row = measure(two_calls(), STEP_TIME)
    assert (row["ttft_mean_s"], row["ttft_p50_s"], row["ttft_p99_s"]) == (2.5, 2.0, 3.0)
    assert (row["tpot_mean_s"], row["tpot_p95_s"]) == (0.375, 0.5)
    assert (row["e2e_mean_s"], row["queue_wait_mean_s"]) == (4.0, 0.75)
    assert (row["completion_mean_s"], row["makespan_s"]) == (4.0, 5.0)
    assert row["output_tokens_per_s"] == 2.0


def test_caches() -> None:
    row = measure(two_calls(), STEP_TIME)
    assert row["prefix_hit_rate"] == row["expected_hit_rate"] == pytest.approx(64 / 180)
    assert row["hit_rate_by_context"] == {"tools": 0.5, "user": pytest.approx(4 / 60)}
    # The prompts are held for 3 s and 3.5 s.
    tools, user = 60 * 3.0 + 60 * 3.5, 40 * 3.0 + 20 * 3.5
    assert row["kv_share_by_context"] == pytest.approx({"tools": tools / (tools + user), "user": user / (tools + user)})
    assert row["zero_recompute_rate"] == 0.5


def test_recomputed_tokens_count_preemptions() -> None:
    assert measure(two_calls(), STEP_TIME)["recomputed_tokens"] == 8
    run = two_calls()
    run.replicas[0] = ReplicaRecord(2.0, 104 + 30, 1, 0.5)
    assert measure(run, STEP_TIME)["recomputed_tokens"] == 38


def test_replicas() -> None:
    row = measure(two_calls(), STEP_TIME)
    assert row["imbalance"] == pytest.approx(100 / 58)
    assert row["busy_imbalance"] == pytest.approx(3 / 2.5)
    assert row["gpu_s_per_program"] == 2.5
    assert row["utilisation"] == 0.5
    assert row["kv_usage"] == 0.5


@pytest.mark.parametrize(
    ("slo", "share"),
    [
        (Slo(ttft_s=3.0, tpot_s=0.5), 1.0),
        (Slo(ttft_s=2.0, tpot_s=0.5), 0.5),
        (Slo(ttft_s=3.0, tpot_s=0.4), 0.5),
        (Slo(ttft_s=2.0, tpot_s=0.4), 0.0),
        (Slo(ttft_s=3.0, tpot_s=0.5, program_s=3.9), 0.0),
    ],
)
def test_goodput_is_the_share_of_calls_within_all_limits(slo: Slo, share: float) -> None:
    assert measure(two_calls(), STEP_TIME, slo)["goodput_fraction"] == share


def test_jain_is_one_for_equals_and_one_over_n_for_a_monopoly() -> None:
    assert jain([0.3, 0.3, 0.3]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25


def test_tenants_are_compared_by_their_mean_progress() -> None:
    calls = [
        call(one_call(name, part(1, 10), tenant=tenant), times_s=(0.1, 0.2, ended_s))
        for name, tenant, ended_s in [("a", "x", 1.0), ("b", "x", 3.0), ("c", "y", 1.5)]
    ]
    row = measure(run_of(calls, [39]), STEP_TIME)
    assert row["jain_tenants"] == pytest.approx(1.0)
    assert float(str(row["jain_programs"])) < 0.9


def test_the_bound_is_the_critical_path_without_prefill() -> None:
    steps = (
        Step("a", (part(1, 100),), 2, 1),
        Step("slow", (part(1, 10),), 50, 2, after=("a",), wait_s=1.0),
        Step("quick", (part(1, 10),), 1, 3, after=("a",)),
        Step("join", (part(1, 10),), 1, 4, after=("slow", "quick")),
    )
    token_ps, context_ps = STEP_TIME.fixed_ps + STEP_TIME.decode_seq_ps, STEP_TIME.context_token_ps
    tokens_ps = 53 * token_ps + context_ps * (100 + 101 + sum(range(10, 60)) + 10)
    assert bound_s(Program("p", "test", 0.0, steps), STEP_TIME) == pytest.approx(1.0 + tokens_ps / 1e12)


def test_a_row_has_the_fields_of_the_report() -> None:
    row = measure(two_calls(), ENGINE.step_time)
    names = [
        f"{name}_{kind}_s"
        for name in ("completion", "ttft", "tpot", "e2e", "queue_wait")
        for kind in ("mean", "p50", "p95", "p99")
    ]
    names += ["replicas", "requests", "programs", "prefix_hit_rate", "recomputed_tokens", "imbalance", "jain_programs"]
    assert {*names, "goodput_fraction", "gpu_s_per_program"} <= row.keys()
    assert (row["replicas"], row["requests"], row["programs"]) == (2, 2, 2)


def test_a_run_of_nothing_has_a_row() -> None:
    row = measure(Run(replicas=[ReplicaRecord(0.0, 0, 0, 0.0)]), STEP_TIME)
    assert (row["completion_mean_s"], row["prefix_hit_rate"], row["imbalance"], row["jain_programs"]) == (0, 0, 1, 1)
