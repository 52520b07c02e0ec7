"""Policies of other routers on a small cluster: all work is done, the same each time, and prefixes are found."""

from dataclasses import replace

import pytest

from router.core.types import Health, Outcome, ReplicaSpec, Request, Ticket, Usage
from scorers.guarded import Guarded
from sim.bench.measure import measure
from sim.cluster import Cluster, ClusterConfig
from sim.engine import load_profile
from sim.policies.catalogue import POLICIES, find_policies
from sim.policies.policy import World
from sim.workloads.arrivals import Poisson
from sim.workloads.registry import make_workload

ENGINE = load_profile("llama-3.1-8b-1xh100").engine
BLIND = ("random", "least-load", "power-of-two")
SEEING = ("max-prefix", "llm-d", "llm-d-token-load", "dynamo", "dynamo-lmetric", "preble")
PROGRAMS = make_workload("shared-prefix", 0, 120, Poisson(10.0), groups=8)


def serve(name):
    (policy,) = find_policies(name)
    config = ClusterConfig(ENGINE, replicas=4)
    world = World(PROGRAMS, ENGINE, 4)
    config = config if policy.kv_events else replace(config, kv_events=None)
    return Cluster(config, lambda number: policy.make_router(world, number)).run(PROGRAMS)


@pytest.fixture(scope="module")
def hit_rates():
    runs = {name: serve(name) for name in ("round-robin", *BLIND, *SEEING, "session-affinity")}
    assert all(len(run.programs) == len(PROGRAMS) for run in runs.values())
    return {name: measure(run, ENGINE.step_time)["prefix_hit_rate"] for name, run in runs.items()}


@pytest.mark.parametrize("name", SEEING)
def test_prefix_aware_policies_compute_less_than_any_blind_one(hit_rates, name):
    assert hit_rates[name] > max(hit_rates[blind] for blind in ("round-robin", *BLIND)) + 0.05


def test_max_prefix_computes_least(hit_rates):
    assert hit_rates["max-prefix"] == max(hit_rates.values())


@pytest.mark.parametrize("name", ["random", "dynamo", "preble"])
def test_equal_seeds_give_equal_runs(name):
    assert serve(name).calls == serve(name).calls


@pytest.mark.parametrize("name", [*BLIND, "session-affinity", "preble"])
def test_who_ships_without_kv_events_is_marked(name):
    assert not POLICIES[name].kv_events


class Witness:
    """A scorer that is told of ends."""

    name = "witness"

    def __init__(self):
        self.ends = []

    def score(self, request, candidates, view):
        return candidates.cached_tokens * 0.0

    def ended(self, ticket, usage, now):
        self.ends.append((ticket.request.id, ticket.decision.replica.name, usage, now))


@pytest.fixture
def router():
    """One replica, and a profile with a `Witness` of the user's own as its only scorer."""
    policy = replace(POLICIES["least-load"], profile={"scorers": [{"name": f"{__name__}:Witness"}]})
    router = policy.make_router(World([], ENGINE, 1), 0)
    router.on_replica(ReplicaSpec("a", "http://a", models=("m",)), 0.0)
    router.on_health("a", Health.HEALTHY, 0.0)
    return router


def witness(router):
    guarded = router.profiles["default"].scorers[0].scorer
    assert isinstance(guarded, Guarded)
    return guarded._scorer


def test_scorers_are_told_of_ends(router):
    ticket = router.submit(Request("r", "m"), 0.0)
    router.poll(0.0)
    router.on_response_end(ticket, Usage(1, 0, 2), Outcome.OK, 3.0)
    assert witness(router).ends == [("r", "a", Usage(1, 0, 2), 3.0)]


def test_a_request_that_never_ends_is_over_when_it_is_given_up(router):
    ticket = router.submit(Request("r", "m"), 0.0)
    router.poll(0.0)
    router.poll(901.0)
    router.on_response_end(ticket, None, Outcome.OK, 902.0)
    assert witness(router).ends == [("r", "a", None, 901.0)]


def test_a_scorer_that_breaks_at_an_end_is_counted(scene):
    class Broken(Witness):
        def ended(self, ticket, usage, now):
            raise KeyError("gone")

    guarded = Guarded(Broken())
    guarded.ended(Ticket(scene.request(), 0.0), None, 1.0)
    assert guarded.mishaps == 1
    assert "gone" in guarded.last_mishap
