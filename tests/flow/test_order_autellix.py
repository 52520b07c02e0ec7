"""PLAS and ATLAS: queues by attained seconds, first come first served inside, and nobody starves."""

import pytest
from flow_world import Desk

from flow.orders.atlas import atlas
from flow.orders.plas import plas
from router.core.flow import Flow


def served(desk, program, seconds, **request):
    """A request of the program is served for this long."""
    each = desk.submit(program, **request)
    desk.poll(places=1)
    desk.now += seconds
    desk.end(each)


@pytest.mark.parametrize(("attained_s", "other_s", "first"), [(1.9, 0, "served"), (2, 0, "new"), (63, 33, "served")])
def test_queues_have_bounds_of_two_four_to_sixty_four_seconds(attained_s, other_s, first):
    desk = Desk(Flow(plas()))
    served(desk, "served", attained_s)
    served(desk, "new", other_s)
    desk.submit("served")
    desk.submit("new")
    assert desk.poll(places=2)[0] == first


def test_plas_counts_all_calls_of_a_program():
    desk = Desk(Flow(plas()))
    for _ in range(3):
        served(desk, "wide", 1)
    served(desk, "other", 1)
    desk.submit("wide")
    desk.submit("other")
    assert desk.poll(places=2) == ["other", "wide"]


def test_plas_counts_completed_calls_only():
    desk = Desk(Flow(plas()))
    desk.submit("busy")
    desk.poll(places=1)
    desk.now = 100
    desk.submit("busy")
    desk.submit("new")
    assert desk.poll(places=2) == ["busy", "new"]


def test_atlas_takes_the_longest_path_and_not_the_sum():
    """a -> b, c; b took 5 s, c 1 s. d follows c alone: 1 + 1 s, queue [2, 4). e follows both: 1 + 5 s, queue [4, 8)."""
    desk = Desk(Flow(atlas()))
    served(desk, "p", 1, step="a")
    b, c = desk.submit("p", step="b", after=("a",)), desk.submit("p", step="c", after=("a",))
    desk.poll(places=2)
    desk.now += 1
    desk.end(c)
    desk.now += 4
    desk.end(b)
    served(desk, "third", 3, step="x")
    desk.submit("p", step="e", after=("b", "c"))
    desk.submit("third", step="y", after=("x",))
    desk.submit("p", step="d", after=("c",))
    left = []
    for _ in range(3):
        left += desk.poll(places=1)
    assert left == ["third", "p", "p"]


def test_atlas_takes_the_longest_path_so_far_when_steps_have_no_names():
    desk = Desk(Flow(atlas()))
    served(desk, "p", 3)
    desk.submit("p")
    desk.submit("new")
    assert desk.poll(places=2) == ["new", "p"]


@pytest.mark.parametrize(("waits_s", "first"), [(31.9, "new"), (32, "starving")])
def test_who_waits_eight_times_its_service_moves_to_the_first_queue(waits_s, first):
    """Served for 4 s: its patience is 32 s. At the end of the first queue it still precedes who comes later."""
    desk = Desk(Flow(plas()))
    served(desk, "starving", 4)
    desk.submit("starving")
    desk.now += waits_s
    desk.poll(places=0)
    desk.submit("new")
    assert desk.poll(places=2)[0] == first


def test_earlier_waits_of_the_program_count():
    """Served for 4 s after a wait of 20 s: 12 s more are enough."""
    desk = Desk(Flow(plas()))
    first = desk.submit("starving")
    desk.now = 20
    desk.poll(places=1)
    desk.now = 24
    desk.end(first)
    desk.submit("starving")
    desk.now = 36
    desk.poll(places=0)
    desk.submit("new")
    assert desk.poll(places=2) == ["starving", "new"]


def test_nothing_is_kept_of_who_left():
    order = plas()
    desk = Desk(Flow(order))
    for _ in range(500):
        served(desk, "a", 3)
    each = desk.submit("a")
    assert desk.withdraw(each)
    assert (order._calls, dict(order._behind)) == ({}, {})
    assert len(order._starving) <= 100
