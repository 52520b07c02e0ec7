"""The feed: every fact reaches the router, who waits hears of it, and who is down is forgotten."""

import numpy as np
import pytest

from router.core.fleet import FleetFullError
from router.core.index.batch import KvBatch
from router.core.index.hashing import chain_seed
from router.core.router import Router
from router.core.types import Health, IndexState, LoadReport, ReplicaSpec
from router.feed import Feed
from router.profiles import make_profiles

SPEC = ReplicaSpec("a", "http://a", models=("m",), reports_events=True)


class Wired:
    def __init__(self):
        self.router = Router(make_profiles({}))
        self.changes = 0
        self.down = []
        self.feed = Feed(self.router, self.changed, self.down.append)

    def changed(self):
        self.changes += 1


@pytest.fixture
def wired():
    wired = Wired()
    wired.feed.on_replica(SPEC, 0.0)
    wired.feed.on_health("a", Health.HEALTHY, 0.0)
    return wired


def stored():
    tokens = np.arange(32, dtype=np.uint32)
    return KvBatch.stored(np.arange(2, dtype=np.uint64), tokens, block_size_tokens=16, seed=chain_seed("m"))


def test_every_fact_reaches_the_router_and_who_waits(wired):
    assert wired.router.fleet.routable.any()
    assert wired.feed.on_kv_events("a", stored(), 0.0).stored_blocks == 2
    wired.feed.on_index_state("a", IndexState.SYNCED, 0.0)
    wired.feed.on_load("a", LoadReport(1, 2, 0.5), 0.0)
    assert (wired.router.index.held_blocks(0), wired.router.fleet.index_states[0]) == (2, IndexState.SYNCED)
    wired.feed.on_index_reset("a", 0.0)
    assert wired.router.index.held_blocks(0) == 0
    wired.feed.on_replica_gone("a", 0.0)
    assert (len(wired.router.fleet), wired.changes) == (0, 7)


@pytest.mark.parametrize("health", [Health.UNHEALTHY, Health.DRAINING, Health.STARTING])
def test_a_replica_that_is_not_healthy_is_down(wired, health):
    assert wired.down == []
    wired.feed.on_health("a", health, 0.0)
    wired.feed.on_replica_gone("a", 0.0)
    assert wired.down == ["a", "a"]


def test_a_full_fleet_says_so(wired):
    def fill():
        for number in range(100_000):
            wired.feed.on_replica(ReplicaSpec(f"r{number}", "http://r"), 0.0)

    with pytest.raises(FleetFullError):
        fill()
