"""Prompts computed on one replica and answered by another, in the simulated cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cluster_world import CONFIG, ENGINE, one_call, part, workloads
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.disaggregation.always import Always
from flow.disaggregation.min_uncached import MinUncached
from flow.disaggregation.never import Never
from router.config import ProfileConfig
from router.core.disaggregation.rule import Rule
from router.core.disaggregation.settings import Disaggregation
from router.core.router import Router
from router.core.types import Role
from router.profiles import make_profiles
from sim.bench.measure import measure
from sim.cluster import CallRecord, Cluster, ClusterConfig, PrefillRecord, Run
from sim.cluster.interfaces import Interfaces
from sim.cluster.replica import Replica
from sim.cluster.timeline import Timeline
from sim.engine import KvLoadFailurePolicy, TransferModel
from sim.workloads.program import Program

P, D, B = Role.PREFILL, Role.DECODE, Role.BOTH
TRANSFER = TransferModel(bytes_per_token=1_000_000, bandwidth_bytes_per_s=1e9, latency_s=0.005)
PAIR = replace(CONFIG, roles=(P, D), transfer=TRANSFER)


def routers(rule: Callable[[], Rule] = Always, profile: str = "default") -> Callable[[int], Router]:
    def make_router(number: int) -> Router:
        profiles = make_profiles({}, profile)
        return Router(profiles, seed=number, disaggregation=Disaggregation(rule(), profiles["prefill"]))

    return make_router


def serve(programs: list[Program], config: ClusterConfig = PAIR, rule: Callable[[], Rule] = Always) -> Run:
    return Cluster(config, routers(rule)).run(programs)


def prefill_of(call: CallRecord) -> PrefillRecord:
    assert call.prefill is not None
    return call.prefill


LONG = one_call("long", part(1, 100), output_tokens=20)


def test_one_replica_computes_the_prompt_and_the_other_answers() -> None:
    run = serve([LONG])
    (call,) = run.calls
    assert (call.replica, prefill_of(call).replica) == (1, 0)
    assert [replica.computed_tokens for replica in run.replicas] == [100, 1 + 19]
    assert [replica.role for replica in run.replicas] == [P, D]


def test_the_prompt_travels_between_the_two() -> None:
    (call,) = serve([LONG]).calls
    prefill = prefill_of(call)
    assert prefill.fetched_tokens == 100
    assert prefill.transfer_s == pytest.approx(0.105)
    one_way_s = CONFIG.network_s
    assert prefill.asked_s == pytest.approx(prefill.ended_s + 2 * one_way_s)
    step_s = ENGINE.step_time.fixed_ps / 1e12
    assert call.first_token_s > prefill.asked_s + prefill.transfer_s + step_s + one_way_s
    assert call.first_token_s < prefill.asked_s + prefill.transfer_s + 1.1 * step_s + one_way_s


def test_only_what_the_replica_does_not_hold_travels() -> None:
    again = one_call("again", part(1, 100), part(2, 20), arrival_s=5.0)
    first, second = (prefill_of(call) for call in serve([LONG, again]).calls)
    assert (first.fetched_tokens, second.fetched_tokens) == (100, 20)


def test_what_travels_layer_by_layer_arrives_sooner() -> None:
    pulled = prefill_of(serve([LONG]).calls[0])
    layered = prefill_of(serve([LONG], replace(PAIR, transfer=replace(TRANSFER, overlap=0.9))).calls[0])
    hidden_s = min(0.09, layered.ended_s - layered.scheduled_s)
    assert layered.transfer_s == pytest.approx(pulled.transfer_s - hidden_s)


def test_blocks_are_kept_until_they_have_been_fetched_and_no_longer() -> None:
    cluster = Cluster(PAIR, routers())
    run = cluster.run([LONG])
    assert [replica.engine.kept for replica in cluster._replicas] == [0, 0]
    assert [replica.engine.kv_usage for replica in cluster._replicas] == [0.0, 0.0]
    assert [replica.expired_leases for replica in run.replicas] == [0, 0]


def test_an_aggregated_call_has_no_prefill_of_its_own() -> None:
    (call,) = serve([LONG], rule=Never).calls
    assert (call.prefill, call.replica, call.computing_replica) == (None, 1, 1)


@pytest.mark.parametrize("policy", KvLoadFailurePolicy)
def test_where_a_transfer_fails_the_replica_that_answers_computes_the_prompt(policy: KvLoadFailurePolicy) -> None:
    config = replace(PAIR, engine=replace(ENGINE, kv_load_failure_policy=policy), transfer_failures=1.0)
    cluster = Cluster(config, routers())
    run = cluster.run([LONG])
    (call,) = run.calls
    assert (prefill_of(call).failed, prefill_of(call).fetched_tokens) == (True, 0)
    assert call.recomputed_tokens == 96, "all full blocks were computed by the other one"
    assert [replica.computed_tokens for replica in run.replicas] == [100, 100 + 19]
    assert cluster._replicas[0].engine.expired_leases == 1, "nobody told the replica that computed it first"


def test_a_share_of_transfers_fails() -> None:
    programs = [one_call(f"p{i}", part(10 + i, 40), arrival_s=0.2 * i) for i in range(200)]
    failed = sum(prefill_of(call).failed for call in serve(programs, replace(PAIR, transfer_failures=0.25)).calls)
    assert 30 < failed < 70


def test_who_comes_after_the_lease_finds_nothing_to_fetch() -> None:
    """The replica that answers has room for one request at a time."""
    engine = replace(ENGINE, num_blocks=129, kv_lease_duration_s=0.5)
    busy = one_call("busy", part(1, 120), output_tokens=380)
    late = one_call("late", part(2, 420), arrival_s=0.1)
    calls = {call.program.id: call for call in serve([busy, late], replace(PAIR, engine=engine)).calls}
    assert (prefill_of(calls["busy"]).failed, prefill_of(calls["late"]).failed) == (False, True)


def test_a_router_that_disaggregates_needs_a_transfer_model() -> None:
    with pytest.raises(ValueError, match="transfer model"):
        serve([LONG], replace(PAIR, transfer=None))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"roles": (P,)}, "as many roles"),
        ({"roles": (P, P)}, "answers"),
        ({"transfer_failures": 1.5}, "share"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **wrong)


class Wire:
    """Transfers of so many seconds each, if alone."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.interfaces = Interfaces(self.timeline, 1e9)
        self.arrived: dict[str, float] = {}

    def send(self, name: str, source: int, target: int, alone_s: float, at_s: float = 0.0) -> None:
        def arrived() -> None:
            self.arrived[name] = self.timeline.now

        self.timeline.at(at_s, self.interfaces.send, source, target, alone_s * 1e9, arrived)


@pytest.mark.parametrize("ends", [((0, 2), (0, 3)), ((0, 2), (1, 2))], ids=["leaving", "entering"])
def test_transfers_share_an_interface(ends: tuple[tuple[int, int], tuple[int, int]]) -> None:
    wire = Wire()
    wire.send("one", *ends[0], 1.0)
    wire.send("two", *ends[1], 3.0)
    wire.timeline.run()
    assert wire.arrived == {"one": pytest.approx(2.0), "two": pytest.approx(4.0)}


def test_transfers_of_other_pairs_take_their_own_time() -> None:
    wire = Wire()
    wire.send("one", 0, 2, 1.0)
    wire.send("two", 1, 3, 3.0)
    wire.send("back", 2, 0, 0.5)
    wire.timeline.run()
    assert wire.arrived == {"one": 1.0, "two": 3.0, "back": 0.5}


def test_a_transfer_that_comes_later_slows_the_rest_of_the_first() -> None:
    wire = Wire()
    wire.send("one", 0, 1, 2.0)
    wire.send("two", 0, 1, 1.0, at_s=1.0)
    wire.send("three", 0, 1, 0.0, at_s=1.0)
    wire.timeline.run()
    assert wire.arrived == {"three": 1.0, "one": pytest.approx(3.0), "two": pytest.approx(3.0)}


@st.composite
def fleets(draw: st.DrawFn) -> ClusterConfig:
    roles = draw(st.sampled_from([(P, D), (P, P, D), (P, D, D), (B, D), (P, B), (P, B, D)]))
    engine = replace(
        ENGINE,
        num_blocks=draw(st.sampled_from([129, 513])),
        max_num_seqs=draw(st.sampled_from([1, 8])),
        kv_load_failure_policy=draw(st.sampled_from(KvLoadFailurePolicy)),
        kv_lease_duration_s=draw(st.sampled_from([0.2, 30.0])),
    )
    transfer = replace(
        TRANSFER, latency_s=draw(st.sampled_from([0.0, 0.01])), overlap=draw(st.sampled_from([0.0, 0.5]))
    )
    return ClusterConfig(
        engine,
        replicas=len(roles),
        routers=draw(st.integers(1, 2)),
        roles=roles,
        transfer=transfer,
        transfer_failures=draw(st.sampled_from([0.0, 0.3])),
    )


rules = st.sampled_from([Always, lambda: MinUncached(60)])


@settings(deadline=None, max_examples=40)
@given(workloads(), fleets(), rules)
def test_every_call_is_served_once_and_work_is_conserved(
    programs: list[Program], config: ClusterConfig, rule: Callable[[], Rule]
) -> None:
    cluster = Cluster(config, routers(rule))
    run = cluster.run(programs)
    assert len(run.calls) == sum(len(program.steps) for program in programs)
    once = 0
    for call in run.calls:
        assert call.sent_s < call.scheduled_s < call.first_token_s <= call.ended_s
        once += call.prompt_tokens - call.cached_tokens + call.output_tokens - 1
        if call.prefill is not None:
            assert call.replica != call.prefill.replica
            assert call.prefill.ended_s < call.prefill.asked_s < call.first_token_s
            once += 1  # The last token of the prompt is computed where the answer begins, too.
    computed = sum(replica.computed_tokens for replica in run.replicas)
    failed = any(call.prefill is not None and call.prefill.failed for call in run.calls)
    assert computed >= once
    if not failed and not any(replica.preemptions for replica in run.replicas):
        assert computed == once
    for replica in cluster._replicas:
        assert (replica.engine.kv_usage, replica.engine.kept, replica.engine.requests) == (0.0, 0, {})


@settings(deadline=None, max_examples=20)
@given(workloads(), fleets(), rules)
def test_equal_seeds_give_equal_bytes(programs: list[Program], config: ClusterConfig, rule: Callable[[], Rule]) -> None:
    rows = [json.dumps(measure(serve(programs, config, rule), config.engine.step_time)) for _ in range(2)]
    assert rows[0] == rows[1]


def in_turn(number: int) -> Router:
    """Goes by nothing that replicas tell."""
    turns = {"scorers": [], "picker": "round-robin"}
    profiles = make_profiles(
        {
            "default": ProfileConfig.model_validate(turns),
            "prefill": ProfileConfig.model_validate({**turns, "filters": ["healthy", "model", "prefills"]}),
        }
    )
    return Router(profiles, seed=number, disaggregation=Disaggregation(Always(), profiles["prefill"]))


@settings(deadline=None, max_examples=30)
@given(workloads(), fleets())
def test_sleeping_through_decode_steps_changes_nothing(programs: list[Program], config: ClusterConfig) -> None:
    with pytest.MonkeyPatch.context() as patch:
        slept = Cluster(config, in_turn).run(programs)
        patch.setattr(Replica, "_certain_steps", lambda self, last: 0)
        awake = Cluster(config, in_turn).run(programs)
    assert sorted(call.ended_s for call in slept.calls) == pytest.approx(
        sorted(call.ended_s for call in awake.calls), abs=1e-9
    )
    for one, other in zip(slept.replicas, awake.replicas, strict=True):
        assert (one.computed_tokens, one.busy_s) == (other.computed_tokens, other.busy_s)
