"""What must hold whatever the policy: orders, gates, admission, hints, lost events and several routers included."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace

import pytest
from cluster_world import CONFIG, ENGINE, configs, one_call, part, workloads
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.types import LoadReport
from sim.bench.measure import measure
from sim.cluster import CallRecord, Cluster, ClusterConfig, Link, Run
from sim.cluster.call import Call
from sim.cluster.gateway import Gateway
from sim.cluster.timeline import Timeline
from sim.policies.catalogue import POLICIES
from sim.policies.policy import Policy, World
from sim.workloads.hints import hint_names, make_hint
from sim.workloads.program import Program

LOSSY = Link(delay_s=0.003, jitter_s=0.02, loss=0.3)
GATED = [name for name in ("fcfs", "program-fcfs", "plas", "llm-d-las") if name in POLICIES]


def serve(policy: Policy, programs: list[Program], config: ClusterConfig, hints: str, seed: int = 0) -> Run:
    if not policy.kv_events:
        config = replace(config, kv_events=None)
    world = World(programs, config.engine, config.replicas)
    hint = make_hint(policy.hints or hints, seed)
    return Cluster(config, lambda number: policy.make_router(world, seed + number), seed=seed, hint=hint).run(programs)


def as_bytes(run: Run, config: ClusterConfig) -> bytes:
    """Every call and the row of results."""
    names = [field.name for field in fields(CallRecord) if field.name not in ("program", "step")]
    calls = [(call.program.id, call.step.name, *(getattr(call, name) for name in names)) for call in run.calls]
    return json.dumps([calls, measure(run, config.engine.step_time)]).encode()


@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=6)
@given(workloads(), configs(), st.sampled_from(hint_names()), st.booleans(), st.integers(0, 3))
def test_no_request_is_lost_and_equal_seeds_give_equal_bytes(
    name: str, programs: list[Program], config: ClusterConfig, hints: str, replays: bool, seed: int
) -> None:
    config = replace(config, kv_events=LOSSY, load_reports=LOSSY, replay_s=0.02 if replays else None)
    one, two = (serve(POLICIES[name], programs, config, hints, seed) for _ in range(2))
    asked = Counter((program.id, step.name) for program in programs for step in program.steps)
    assert Counter((call.program.id, call.step.name) for call in one.calls) == asked
    assert {record.program.id for record in one.programs} == {program.id for program in programs}
    assert all(call.sent_s < call.scheduled_s < call.first_token_s <= call.ended_s for call in one.calls)
    assert as_bytes(one, config) == as_bytes(two, config)


@pytest.mark.parametrize("name", POLICIES)
def test_a_router_keeps_nothing_of_requests_that_are_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gateways: list[Gateway] = []
    init = Gateway.__init__

    def kept(self: Gateway, *arguments: object) -> None:
        gateways.append(self)
        init(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Gateway, "__init__", kept)
    programs = [one_call(f"p{i}", part(i % 3, 100), part(10 + i, 30), arrival_s=0.01 * i) for i in range(20)]
    serve(POLICIES[name], programs, replace(CONFIG, routers=2), "full")
    assert len(gateways) == 2
    assert [(gateway._router.waiting, gateway._router.in_flight) for gateway in gateways] == [(0, 0)] * 2


class Watched(Gateway):
    """After all that may make room, nobody is left behind for whom there is room."""

    most_waiting = 0

    def submit(self, call: Call) -> None:
        super().submit(call)
        self._check()

    def response_started(self, call: Call) -> None:
        super().response_started(call)
        self._check()

    def response_ended(self, call: Call) -> None:
        super().response_ended(call)
        self._check()

    def on_load(self, name: str, report: LoadReport) -> None:
        super().on_load(name, report)
        self._check()

    def _check(self) -> None:
        Watched.most_waiting = max(Watched.most_waiting, self._router.waiting)
        assert self._router.poll(self._timeline.now) == []


@pytest.mark.parametrize("name", GATED)
@settings(deadline=None, max_examples=15)
@given(workloads(), configs(), st.sampled_from(hint_names()))
def test_nothing_waits_in_a_router_while_its_gate_sees_room(
    name: str, programs: list[Program], config: ClusterConfig, hints: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.cluster.cluster.Gateway", Watched)
        serve(POLICIES[name], programs, config, hints)


@pytest.mark.parametrize("name", GATED)
def test_a_burst_waits_in_the_router_until_there_is_room(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the property above is about something."""
    monkeypatch.setattr("sim.cluster.cluster.Gateway", Watched)
    monkeypatch.setattr(Watched, "most_waiting", 0)
    run = serve(POLICIES[name], [one_call(f"p{i}", part(i, 200)) for i in range(30)], CONFIG, "full")
    assert Watched.most_waiting > 5
    assert len(run.calls) == 30


class Inspected(Timeline):
    """Looks at all replicas after every call."""

    cluster: Cluster

    def at(self, time_s: float, call: object, *arguments: object) -> None:
        super().at(time_s, self._call_and_look, call, *arguments)

    def _call_and_look(self, call: object, *arguments: object) -> None:
        call(*arguments)  # type: ignore[operator]
        for replica in self.cluster._replicas:
            at_work = replica._stepping or replica._asleep_since_s is not None
            assert at_work or not replica.engine.has_work, f"replica {replica.number} idles at {self.now}"


@settings(deadline=None, max_examples=40)
@given(workloads(), configs(), st.sampled_from(["weft", *GATED]))
def test_no_replica_idles_while_a_request_waits_in_its_engine(
    programs: list[Program], config: ClusterConfig, name: str
) -> None:
    world = World(programs, config.engine, config.replicas)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.cluster.cluster.Timeline", Inspected)
        cluster = Cluster(config, lambda number: POLICIES[name].make_router(world, number))
        cluster._timeline.cluster = cluster  # type: ignore[attr-defined]
        assert len(cluster.run(programs).programs) == len(programs)


def test_a_replica_computes_for_as_long_as_its_requests_take() -> None:
    """One after the other on one replica: its busy time is what lies between scheduling and end, less the network."""
    programs = [one_call(f"p{i}", part(i, 40 + i), arrival_s=10.0 * i, output_tokens=5 + i) for i in range(8)]
    config = replace(CONFIG, replicas=1, engine=ENGINE)
    run = serve(POLICIES["weft"], programs, config, "none")
    worked_s = sum(call.ended_s - call.scheduled_s - config.network_s for call in run.calls)
    assert run.replicas[0].busy_s == pytest.approx(worked_s)
