"""The policies of other routers, each driving a small fleet."""

import pytest

from sim.cluster import Cluster, ClusterConfig
from sim.engine import load_profile
from sim.policies.catalogue import POLICIES
from sim.policies.policy import World
from sim.workloads.registry import make_workload

ENGINE = load_profile("llama-3.1-8b-1xh100").engine


@pytest.mark.parametrize("name", ["smg", "vllm-router", "production-stack", "aibrix"])
def test_policies_serve_programs_alike_each_time_without_kv_events(name):
    programs = make_workload("chat", seed=1, count=12)
    world = World(programs, ENGINE, replicas=3)
    config = ClusterConfig(ENGINE, replicas=3, kv_events=None)

    def placements():
        run = Cluster(config, lambda number: POLICIES[name].make_router(world, number)).run(programs)
        return [(call.sent_s, call.replica, call.cached_tokens) for call in run.calls]

    assert not POLICIES[name].kv_events
    first = placements()
    assert len(first) == sum(len(program.steps) for program in programs)
    assert any(cached for _, _, cached in first)
    assert placements() == first
