"""Which replicas can start one more request; steps of 100 tokens."""

import numpy as np
import pytest
from flow_world import waiting
from hypothesis import given
from hypothesis import strategies as st

from flow.gates.all_busy import AllBusy
from flow.gates.step_budget import StepBudget
from router.core.fleet import Fleet
from router.core.load import Load
from router.core.types import LoadReport
from router.core.view import Candidates, View


def room(gate, queued, cached=None, tokens=10, kv_usage=None, capacity=10_000):
    """Of replicas with these tokens still to be computed, and as many holding ``cached`` tokens of the prompt."""
    load = Load()
    for slot, each in enumerate(queued):
        load.reset(slot, capacity)
        if each:
            load.dispatch(slot, each, each)
        if kv_usage:
            load.report(slot, LoadReport(running=1, waiting=0, kv_usage=kv_usage[slot]))
    slots = np.arange(len(queued))
    held = np.zeros((4, len(queued)))
    held[0] = cached or 0
    answer = gate.room(waiting(tokens=tokens), Candidates(slots, Fleet(), held), View(load, slots, 0.0))
    return answer.tolist()


class TestAllBusy:
    gate = AllBusy(threshold=2, max_num_batched_tokens=100)

    def test_room_everywhere_as_soon_as_one_replica_is_not_busy(self):
        assert room(self.gate, [500, 200, 300]) == [True, True, True]

    def test_no_room_when_all_are_busy(self):
        assert room(self.gate, [201, 300]) == [False, False]


class TestStepBudget:
    gate = StepBudget(steps=2, max_num_batched_tokens=100)

    @pytest.mark.parametrize(("queued", "has_room"), [([199, 500], True), ([200, 500], False)])
    def test_room_everywhere_while_one_replica_has_less_to_compute_than_its_steps_take(self, queued, has_room):
        assert room(self.gate, queued) == [has_room] * 2

    @pytest.mark.parametrize(
        ("cached", "kv_usage", "has_room"), [(0, 0.8, True), (0, 0.81, False), (10, 0.81, True), (9, 0.81, False)]
    )
    def test_what_runs_what_is_queued_and_what_is_not_cached_must_fit_the_memory(self, cached, kv_usage, has_room):
        """Of 1000 tokens, 100 are queued, and the prompt has 100."""
        assert room(self.gate, [100], [cached], 100, [kv_usage], 1000) == [has_room]

    def test_steps_and_memory_must_be_free_on_the_same_replica(self):
        assert room(self.gate, [300, 100], tokens=100, kv_usage=[0.1, 0.9], capacity=1000) == [False, False]

    def test_an_idle_replica_has_room_for_what_fits_nowhere(self):
        assert room(self.gate, [0, 10], tokens=5000, capacity=1000) == [True, True]

    def test_a_replica_that_others_keep_busy_is_not_idle(self):
        assert room(self.gate, [0], tokens=500, kv_usage=[0.9], capacity=1000) == [False]


@pytest.mark.parametrize("gate", [StepBudget(2, 100), AllBusy(2, 100)])
@given(queued=st.lists(st.integers(0, 1000), min_size=1, max_size=5), tokens=st.integers(1, 20_000))
def test_a_fleet_with_an_idle_replica_has_room_for_anything(gate, queued, tokens):
    assert all(room(gate, [0, *queued], tokens=tokens))
