"""What must hold for any programs on any cluster."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from cluster_world import CONFIG, ENGINE, configs, routers, serve, workloads
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.bench.measure import measure
from sim.bench.measure_fairness import bound_s
from sim.cluster import Cluster, ClusterConfig, Link, Run
from sim.cluster.replica import Replica
from sim.engine import BlocksStored, StepResult
from sim.workloads.program import Program

LOSSY = Link(delay_s=0.003, jitter_s=0.02, loss=0.3)


def outline(run: Run) -> list[tuple[object, ...]]:
    return [
        (call.program.id, call.step.name, call.router, call.replica, call.cached_tokens, call.recomputed_tokens)
        for call in run.calls
    ]


def times(run: Run) -> list[float]:
    return [
        time_s for call in run.calls for time_s in (call.sent_s, call.scheduled_s, call.first_token_s, call.ended_s)
    ]


@settings(deadline=None, max_examples=60)
@given(workloads(), configs(), st.sampled_from([None, 1, 2]))
def test_every_call_is_served_once_and_in_its_turn(
    programs: list[Program], config: ClusterConfig, in_flight: int | None
) -> None:
    run = Cluster(config, routers()).run(programs, in_flight)
    ended_s = {(call.program.id, call.step.name): call.ended_s for call in run.calls}
    asked = [(program.id, step.name) for program in programs for step in program.steps]
    assert Counter((call.program.id, call.step.name) for call in run.calls) == Counter(asked)
    started_s = {record.program.id: record.started_s for record in run.programs}
    assert started_s.keys() == {program.id for program in programs}
    for call in run.calls:
        before_s = [ended_s[call.program.id, name] for name in call.step.after] or [started_s[call.program.id]]
        assert call.sent_s == pytest.approx(max(before_s) + call.step.wait_s)
        assert call.sent_s < call.scheduled_s < call.first_token_s <= call.ended_s
        assert call.output_tokens == call.step.output_tokens
    for record in run.programs:
        assert record.ended_s == max(ended_s[record.program.id, step.name] for step in record.program.steps)
        assert record.completion_s >= bound_s(record.program, config.engine.step_time)


@settings(deadline=None, max_examples=60)
@given(workloads(), configs())
def test_work_is_conserved(programs: list[Program], config: ClusterConfig) -> None:
    """What is not cached is computed, once unless a request is preempted; the last token of an answer never is."""
    run = serve(programs, config)
    once = sum(call.prompt_tokens - call.cached_tokens + call.output_tokens - 1 for call in run.calls)
    computed = sum(replica.computed_tokens for replica in run.replicas)
    assert computed >= once
    if not any(replica.preemptions for replica in run.replicas):
        assert computed == once


class WithHoldings(Cluster):
    """Knows from the events alone which blocks each replica holds, and checks every admission against them."""

    def __init__(self, config: ClusterConfig) -> None:
        self.held = [Counter[int]() for _ in range(config.replicas)]
        super().__init__(config, routers())

    def step_began(self, replica: Replica, result: StepResult) -> None:
        super().step_began(replica, result)
        held = self.held[replica.number]
        removed = {block for event in result.events if not isinstance(event, BlocksStored) for block in event[0]}
        block_size = self._config.engine.block_size_tokens
        for work in result.admitted:
            if not work.preemptions:
                lookups = work.block_hashes[: (work.prompt_tokens - 1) // block_size]
                there = (held[block] > 0 and block not in removed for block in lookups)
                expected = next((i for i, known in enumerate(there) if not known), len(lookups))
                assert work.cached_tokens >= expected * block_size
        for event in result.events:
            if isinstance(event, BlocksStored):
                hashes = event.request.block_hashes
                held.update(hashes[event.first_block : event.first_block + event.blocks])
            else:
                held.subtract(event[0])


@settings(deadline=None, max_examples=60)
@given(workloads(), configs())
def test_no_token_is_computed_twice_by_a_replica_without_an_eviction_between(
    programs: list[Program], config: ClusterConfig
) -> None:
    WithHoldings(config).run(programs)


@settings(deadline=None, max_examples=30)
@given(workloads(), st.booleans())
def test_one_replica_that_evicts_nothing_recomputes_nothing_that_was_finished(
    programs: list[Program], closed: bool
) -> None:
    """One program at a time, so that no two compute the same at once."""
    alone = [replace(program, steps=program.steps[:1]) for program in programs]
    config = replace(CONFIG, replicas=1, engine=replace(ENGINE, num_blocks=5000))
    run = Cluster(config, routers()).run(alone, in_flight=1)
    assert all(call.recomputed_tokens == 0 for call in run.calls)


@settings(deadline=None, max_examples=30)
@given(workloads(), configs(), st.booleans(), st.integers(0, 3))
def test_equal_seeds_give_equal_bytes(programs: list[Program], config: ClusterConfig, replays: bool, seed: int) -> None:
    config = replace(config, kv_events=LOSSY, load_reports=LOSSY, replay_s=0.02 if replays else None)
    one, two = (serve(programs, config, seed=seed) for _ in range(2))
    assert (outline(one), times(one)) == (outline(two), times(two))
    rows = [json.dumps(measure(run, config.engine.step_time)).encode() for run in (one, two)]
    assert rows[0] == rows[1]


@settings(deadline=None, max_examples=40)
@given(workloads(), configs())
def test_sleeping_through_decode_steps_changes_nothing(programs: list[Program], config: ClusterConfig) -> None:
    """Round robin, since KV events of decoded blocks do come later to routers that care."""
    with pytest.MonkeyPatch.context() as patch:
        slept = serve(programs, config, "round-robin")
        patch.setattr(Replica, "_certain_steps", lambda self, last: 0)
        awake = serve(programs, config, "round-robin")
    by_name = [sorted(outline(run), key=str) for run in (slept, awake)]
    assert by_name[0] == by_name[1]
    assert sorted(times(slept)) == pytest.approx(sorted(times(awake)), abs=1e-9)
    assert [replica.computed_tokens for replica in slept.replicas] == [
        replica.computed_tokens for replica in awake.replicas
    ]
    assert [replica.busy_s for replica in slept.replicas] == [replica.busy_s for replica in awake.replicas]
