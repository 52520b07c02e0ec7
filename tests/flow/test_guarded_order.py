"""A user's order may raise, lie and return nonsense: the queue goes on, the mishap is counted."""

import pytest
from flow_world import Desk

from flow.guarded import Guarded
from router.core.flow import Flow


class Any:
    """An order made of what it is to do."""

    name = "any"

    def __init__(self, rank=lambda waiting, now: (waiting.number,), **more):
        self.rank = rank
        for name, value in more.items():
            setattr(self, name, value)


def fail(*_):
    raise RuntimeError("defect")


def test_a_sound_order_is_passed_through():
    told = []
    order = Guarded(Any(lambda waiting, now: (-1, True), engine_priority=lambda waiting: 7, reconsider=told.append))
    order.reconsider(("a", "p"))
    assert told == [("a", "p")]
    assert order.rank(None, 0.0) == (-1.0, 1.0)
    assert order.engine_priority(None) == 7
    assert order.moved(0.0) == ()
    assert order.mishaps == 0


@pytest.mark.parametrize(
    "rank", [fail, lambda *_: None, lambda *_: ("a",), lambda *_: (float("nan"),), lambda *_: (1, None)]
)
def test_who_cannot_be_ranked_goes_first(rank):
    order = Guarded(Any(rank))
    assert order.rank(None, 0.0) == () < (-1e9,)
    assert order.mishaps == 1
    assert order.last_mishap


@pytest.mark.parametrize("moved", [fail, lambda now: 3, lambda now: [["unhashable"]]])
def test_moves_that_cannot_be_read_are_none(moved):
    order = Guarded(Any(moved=moved))
    assert (list(order.moved(0.0)), order.mishaps) == ([], 1)


def test_strangers_among_the_moved_do_no_harm():
    desk = Desk(Flow(Guarded(Any(moved=lambda now: [("no", "such program"), 7]))))
    desk.submit("a")
    desk.submit("b")
    assert desk.poll(places=2) == ["a", "b"]


@pytest.mark.parametrize(("said", "sent"), [(2**70, 2**31 - 1), (-(2**70), 1 - 2**31), (1.9, 1), (None, None)])
def test_priorities_are_kept_within_what_an_engine_reads(said, sent):
    assert Guarded(Any(engine_priority=lambda waiting: said)).engine_priority(None) == sent


def test_a_priority_that_is_none_is_none():
    order = Guarded(Any(engine_priority=lambda waiting: "high"))
    assert (order.engine_priority(None), order.mishaps) == (None, 1)
    assert Guarded(Any()).engine_priority(None) is None


def test_an_observer_that_raises_is_told_on():
    order = Guarded(Any(submitted=fail, dispatched=fail, withdrawn=fail, ended=fail, reconsider=fail))
    order.reconsider(("a", "p"))
    desk = Desk(Flow(order))
    desk.submit("a")
    desk.submit("b")
    assert desk.poll(places=2) == ["a", "b"]
    assert order.mishaps == 5
