"""How long KV blocks take from one replica to another."""

import numpy as np
import pytest

from router.core.disaggregation.topology import Distance, Topology
from router.core.disaggregation.transfers import PRIOR_BYTES_PER_S, PRIOR_OVERHEAD_S, Transfers
from router.core.fleet import Fleet
from router.core.types import ReplicaSpec

NEAR_AND_FAR = np.array([Distance.NODE, Distance.FAR])


def seconds(transfers, tokens=1000.0, model="m"):
    return transfers.seconds(np.full(2, tokens), model, NEAR_AND_FAR)


def test_before_anything_was_seen_what_is_near_is_taken_to_be_fast():
    near, far = seconds(Transfers({"m": 100_000}))
    assert near == pytest.approx(PRIOR_OVERHEAD_S + 1e8 / PRIOR_BYTES_PER_S[Distance.NODE])
    assert far > near


def test_each_distance_is_learned_by_itself():
    transfers = Transfers({"m": 100_000})
    before = seconds(transfers)[1]
    for tokens in (1000, 4000, 2000, 8000):
        transfers.observe(tokens, "m", Distance.NODE, 0.005 + tokens * 1e5 / 1e9)
    near, far = seconds(transfers)
    assert near == pytest.approx(0.105)
    assert far == before
    assert transfers.bandwidth_bytes_per_s(Distance.NODE) == pytest.approx(1e9)
    assert transfers.bandwidth_bytes_per_s(Distance.FAR) is None


def test_models_share_what_is_learned_by_the_size_of_their_tokens():
    transfers = Transfers({"small": 50_000, "*": 100_000})
    for tokens in (1000, 4000, 2000, 8000):
        transfers.observe(tokens, "large", Distance.NODE, tokens * 1e5 / 1e9)
    assert seconds(transfers, model="small")[0] == pytest.approx(seconds(transfers)[0] / 2, rel=0.01)


def test_a_topology_follows_the_fleet():
    fleet = Fleet()
    here = fleet.put(ReplicaSpec("a", "http://a", labels={"node": "n1"}))
    there = fleet.put(ReplicaSpec("b", "http://b", labels={"node": "n1"}))
    topology = Topology(fleet)
    assert topology.distances(here)[there] == Distance.NODE
    fleet.put(ReplicaSpec("b", "http://b", labels={"node": "n2"}))
    assert topology.distances(here)[there] == Distance.FAR
