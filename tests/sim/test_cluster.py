"""Programs through a small cluster: what comes when, and what the routers get to know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cluster_world import CONFIG, ENGINE, one_call, part, routers, serve
from engine_world import STEP_TIME
from hypothesis import given
from hypothesis import strategies as st

from router.core.router import Router, RouterSettings
from router.core.types import Health, ReplicaSpec
from router.profiles import make_profiles
from sim.cluster import Cluster, ClusterConfig, Link, Run
from sim.cluster.call import make_call
from sim.cluster.fleet_memory import FleetMemory
from sim.cluster.gateway import Gateway
from sim.cluster.progress import Progress
from sim.cluster.replica import Replica
from sim.cluster.timeline import Timeline
from sim.cluster.tokens import Renderer, render
from sim.engine import Work
from sim.engine.step_time import PS_PER_S
from sim.workloads.hints import no_hint
from sim.workloads.program import Context, Program, Step

ONE = replace(CONFIG, replicas=1)


def step_s(tokens: int, computed: int = 0) -> float:
    """A step that computes this many tokens of one request."""
    work = Work()
    work.add(tokens, computed)
    return STEP_TIME.duration_ps(work) / PS_PER_S


def test_equal_parts_are_equal_tokens() -> None:
    whole = render(Step("a", (part(1, 10), part(2, 6)), 3, answer_stream=9))
    pieces = render(Step("b", (part(1, 4), part(1, 6, offset=4), part(2, 6), part(9, 2)), 1, answer_stream=9))
    assert whole.tolist()[:18] == pieces.tolist()[:18]
    assert whole.dtype == np.uint32
    other = render(Step("c", (part(3, 10), part(2, 6, offset=1)), 3, answer_stream=8))
    assert not (whole == other).any()


@given(st.lists(st.integers(0, 7), max_size=12), st.integers(1, 3))
def test_the_memory_of_the_fleet_is_a_set_of_prefixes(lengths: list[int], factor: int) -> None:
    """Chains share their beginning with others of their kind; long ones make the memory grow."""
    chains = np.random.default_rng(0).integers(1, 1 << 63, (3, 40_000), dtype=np.uint64)
    memory, longest = FleetMemory(), [0, 0, 0]
    for number, length in enumerate(lengths):
        kind, blocks = number % 3, length * factor * 1900
        assert memory.prefix_blocks(chains[kind]) == longest[kind]
        memory.add(chains[kind][:blocks])
        longest[kind] = max(longest[kind], blocks)
    assert [memory.prefix_blocks(chain[:100]) for chain in chains] == [min(100, known) for known in longest]


def test_a_lone_call_takes_the_links_and_its_steps() -> None:
    config = replace(ONE, proxy_s=0.25, network_s=0.5)
    call = serve([one_call("a", part(1, 10), arrival_s=1.0, output_tokens=3)], config).calls[0]
    prefill_s = step_s(10)
    assert call.sent_s == 1.0
    assert call.queue_wait_s == pytest.approx(0.75)
    assert call.ttft_s == pytest.approx(0.75 + prefill_s + 0.5)
    assert call.e2e_s == pytest.approx(0.75 + prefill_s + step_s(1, 10) + step_s(1, 11) + 0.5)
    assert call.tpot_s == pytest.approx((step_s(1, 10) + step_s(1, 11)) / 2)


def test_a_step_follows_after_its_wait_and_hits_on_prompt_and_answer() -> None:
    first = Step("first", (part(1, 16),), 9, answer_stream=5)
    second = Step("second", (part(1, 16), part(5, 9), part(2, 3)), 2, 6, after=("first",), wait_s=7.0)
    run = serve([Program("p", "test", 0.0, (first, second))], ONE)
    before, after = run.calls
    assert after.sent_s == before.ended_s + 7.0
    # The last token of an answer is never computed: 24 of 25 tokens are in 6 full blocks.
    assert after.cached_tokens == 24
    assert after.expected_cached_tokens == 24
    assert run.programs[0].completion_s == after.ended_s


def test_a_join_waits_for_the_slowest() -> None:
    branches = [Step(f"b{i}", (part(i, 8),), 5 + 10 * i, 10 + i) for i in range(3)]
    join = Step("join", (part(9, 8),), 2, 20, after=tuple(step.name for step in branches))
    run = serve([Program("p", "test", 0.0, (*branches, join))])
    by_name = {call.step.name: call for call in run.calls}
    assert by_name["join"].sent_s == by_name["b2"].ended_s


def test_a_closed_loop_keeps_a_number_of_programs_in_flight() -> None:
    programs = [one_call(f"p{i}", part(i, 8), output_tokens=3 + i) for i in range(6)]
    run = Cluster(CONFIG, routers()).run(programs, in_flight=2)
    records = {record.program.id: record for record in run.programs}
    assert [records[f"p{i}"].started_s for i in range(2)] == [0.0, 0.0]
    ends_s = sorted(record.ended_s for record in run.programs)
    assert [records[f"p{i}"].started_s for i in range(2, 6)] == ends_s[:4]


def test_a_limit_of_programs_in_flight_starts_none_before_its_arrival() -> None:
    programs = [one_call(f"p{i}", part(i, 8), arrival_s=100.0 * (i // 3)) for i in range(6)]
    run = Cluster(CONFIG, routers()).run(programs, in_flight=2)
    started_s = {record.program.id: record.started_s for record in run.programs}
    first_end_s = min(record.ended_s for record in run.programs)
    assert [started_s[f"p{i}"] for i in range(5)] == [0.0, 0.0, first_end_s, 100.0, 100.0]


def test_a_second_run_goes_on_where_the_first_ended() -> None:
    cluster = Cluster(CONFIG, routers())
    first = cluster.run([one_call("a", part(1, 41))])
    second = cluster.run([one_call("a", part(1, 41), arrival_s=2.0)])
    assert [len(run.calls) for run in (first, second)] == [1, 1]
    assert second.calls[0].sent_s >= first.makespan_s + 2.0
    assert (second.calls[0].replica, second.calls[0].cached_tokens) == (first.calls[0].replica, 40)


def test_tokens_that_another_replica_had_count_as_recomputed() -> None:
    programs = [one_call(name, part(1, 41), arrival_s=float(i)) for i, name in enumerate("abc")]
    run = serve(programs, CONFIG, "round-robin")
    assert [call.replica for call in run.calls] == [1, 0, 1]
    assert [(call.cached_tokens, call.recomputed_tokens) for call in run.calls] == [(0, 0), (0, 40), (40, 0)]


def test_affinity_finds_the_replica_that_holds_the_prompt() -> None:
    programs = [one_call(name, part(1, 41), arrival_s=10.0 * i) for i, name in enumerate("abcd")]
    run = serve(programs)
    assert len({call.replica for call in run.calls}) == 1
    assert [call.expected_cached_tokens for call in run.calls] == [call.cached_tokens for call in run.calls]


def watched(config: ClusterConfig, programs: list[Program]) -> tuple[Cluster, list[Router], Run]:
    made: list[Router] = []

    def make_router(number: int) -> Router:
        made.append(Router(make_profiles({}), RouterSettings(predicted_ttl_s=0.001), seed=number))
        return made[-1]

    cluster = Cluster(config, make_router)
    return cluster, made, cluster.run(programs)


def cached_blocks(cluster: Cluster) -> list[int]:
    """Blocks that each engine can find by hash."""
    pools = [replica.engine._scheduler.cache.pool for replica in cluster._replicas]
    return [len(set(pool._arrays.blocks["hash"].tolist()) - {0}) for pool in pools]


MANY = [one_call(f"p{i}", part(i % 5, 60), part(100 + i, 60), arrival_s=0.3 * i) for i in range(40)]


def test_routers_learn_what_replicas_hold() -> None:
    small = replace(ENGINE, num_blocks=140)
    cluster, made, _ = watched(replace(CONFIG, engine=small, routers=2), MANY)
    for router in made:
        assert [router.index.held_blocks(slot) for slot in range(2)] == cached_blocks(cluster)
        assert router.in_flight == 0


def test_lost_events_are_replayed() -> None:
    cluster, made, run = watched(replace(CONFIG, kv_events=Link(loss=0.3, jitter_s=0.01)), MANY)
    assert run.lost_kv_batches > 0
    # What is lost behind the last message that arrives is never missed.
    held = sum(made[0].index.held_blocks(slot) for slot in range(2))
    assert held == pytest.approx(sum(cached_blocks(cluster)), rel=0.1)


def test_without_a_replay_socket_a_loss_degrades_the_replica() -> None:
    config = replace(CONFIG, kv_events=Link(loss=0.3), replay_s=None)
    cluster, made, _ = watched(config, MANY)
    held = sum(made[0].index.held_blocks(slot) for slot in range(2))
    assert held < sum(cached_blocks(cluster)) / 2
    assert [str(state) for state in made[0].fleet.index_states] == ["degraded", "degraded"]


def test_without_kv_events_the_router_goes_by_what_it_sent() -> None:
    run = serve([one_call(f"p{i}", part(1, 41), arrival_s=10.0 * i) for i in range(3)], replace(CONFIG, kv_events=None))
    assert [call.expected_cached_tokens for call in run.calls] == [0, 40, 40]


def test_load_reports_arrive_unless_they_are_lost() -> None:
    reported: list[float] = []

    class Told(Router):
        def on_load(self, name, report, now):  # type: ignore[no-untyped-def]
            reported.append(report.kv_usage)
            super().on_load(name, report, now)

    def served(link: Link) -> Run:
        reported.clear()
        config = replace(ONE, load_reports=link, report_interval_s=0.05)
        return Cluster(config, lambda number: Told(make_profiles({}), seed=0)).run(MANY)

    usage = served(Link(delay_s=0.01, jitter_s=0.01)).replicas[0].mean_kv_usage
    assert usage == pytest.approx(sum(reported) / len(reported))
    run = served(Link(loss=0.5))
    assert len(reported) > 0
    assert run.lost_reports > 0


def test_hints_reach_the_router() -> None:
    sessions: list[str] = []

    class Told(Router):
        def submit(self, request, now):  # type: ignore[no-untyped-def]
            sessions.append(request.session_id)
            return super().submit(request, now)

    Cluster(ONE, lambda number: Told(make_profiles({}))).run([one_call("a", part(1, 5))])
    Cluster(ONE, lambda number: Told(make_profiles({})), hint=no_hint).run([one_call("a", part(1, 5))])
    assert sessions == ["a", ""]


def test_a_router_is_polled_when_it_asks_for_it() -> None:
    router = Router(make_profiles({}), RouterSettings(in_flight_timeout_s=0.5))
    long = one_call("long", part(1, 8), output_tokens=200)
    run = Cluster(replace(ONE, report_interval_s=1000.0), lambda number: router).run([long])
    assert run.calls[0].e2e_s > 0.5
    assert router.stats.timed_out_in_flight == 1


def test_a_refused_call_comes_back() -> None:
    timeline, router = Timeline(), Router(make_profiles({}), RouterSettings(retry_after_s=2.0))
    dispatched: list[float] = []
    gateway = Gateway(router, timeline, lambda call, ticket: dispatched.append(timeline.now))
    gateway.add_replica(ReplicaSpec("0", "http://0", models=("m",), block_size_tokens=4))
    router.on_health("0", Health.UNHEALTHY, 0.0)
    program = one_call("a", part(1, 9))
    call = make_call(Progress(program, 0.0, Renderer(4)), program.steps[0], 0, 0.0, "m")
    timeline.at(1.0, gateway.submit, call)
    timeline.at(4.0, router.on_health, "0", Health.HEALTHY, 4.0)
    timeline.at(10.0, gateway.response_ended, call)
    timeline.run()
    assert dispatched == [5.0]
    assert call.record.refusals == 2


def test_a_model_that_nobody_serves_is_an_error() -> None:
    gateway = Gateway(Router(make_profiles({})), Timeline(), lambda call, ticket: None)
    gateway.add_replica(ReplicaSpec("0", "http://0", models=("m",)))
    program = one_call("a", part(1, 9))
    with pytest.raises(ValueError, match="cannot be routed"):
        gateway.submit(make_call(Progress(program, 0.0, Renderer(4)), program.steps[0], 0, 0.0, "other"))


def test_a_sleep_ends_before_blocks_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two answers that do not fit together: one is preempted in the middle, and computed again later."""
    config = replace(ONE, engine=replace(ENGINE, num_blocks=129))
    programs = [one_call(name, part(i, 150), output_tokens=140) for i, name in enumerate("ab")]
    slept = serve(programs, config)
    assert slept.replicas[0].preemptions == 1
    monkeypatch.setattr(Replica, "_certain_steps", lambda self, last: 0)
    awake = serve(programs, config)
    assert [call.ended_s for call in slept.calls] == pytest.approx([call.ended_s for call in awake.calls], abs=1e-9)


@pytest.mark.parametrize("after", [("later",), ("gone",), ("first",)])
def test_steps_follow_earlier_ones_only(after: tuple[str, ...]) -> None:
    steps = (Step("first", (part(1, 4),), 1, 1, after=after), Step("later", (part(1, 4),), 1, 2))
    with pytest.raises(ValueError, match="must name earlier steps"):
        serve([Program("p", "test", 0.0, steps)])


def test_two_programs_have_two_names() -> None:
    with pytest.raises(ValueError, match="same id"):
        serve([one_call("a", part(1, 4)), one_call("a", part(2, 4))])


def test_a_prompt_that_no_engine_takes_is_an_error() -> None:
    with pytest.raises(ValueError, match="a prompt needs 1 to 511 tokens"):
        serve([one_call("a", part(1, 600, context=Context.SHARED))])


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 0},
        {"routers": 0},
        {"report_interval_s": 0.0},
        {"proxy_s": -1.0},
        {"network_s": -1.0},
        {"replay_s": -1.0},
    ],
)
def test_a_cluster_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)) if "_" in next(iter(wrong)) else "at least 1"):
        replace(CONFIG, **wrong)


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"loss": -0.1}, {"delay_s": -1.0}, {"jitter_s": -1.0}])
def test_a_link_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a link needs"):
        Link(**wrong)
