"""The queue against a sorted list: the least rank first, then the first come, closed lanes aside."""

from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.core.fleet import ModelRef
from router.core.flow import Waiting
from router.core.queue import Queue
from router.core.types import Request, Ticket

MODELS = [ModelRef("m"), ModelRef("m", "adapter"), ModelRef("n")]


class Moods:
    """Programs have ranks, which change at a whim."""

    name = "moods"

    def __init__(self):
        self.ranks = {}

    def rank(self, waiting, now):
        return (self.ranks.get(waiting.request.program_key, 0),)

    def moved(self, now):
        raise AssertionError("whoever changes moods says so")


class ByProgramName:
    name = "by-program-name"

    def rank(self, waiting, now):
        return tuple(map(float, map(ord, waiting.request.session_id)))


def make_waiting(number, program="", model=MODELS[0], pinned=""):
    request = Request(str(number), "m", session_id=program)
    return Waiting(Ticket(request, 0.0), model, None, number, lambda _: 0, pinned)


def order_of(queue):
    queue.open_lanes()
    left = []
    while (first := queue.first()) is not None:
        queue.remove(first)
        left.append(first.number)
    return left


def test_the_least_rank_leaves_first_and_equals_as_they_came():
    queue = Queue(ByProgramName())
    for number, program in enumerate("bab"):
        queue.put(make_waiting(number, program), 0.0)
    assert order_of(queue) == [1, 0, 2]


def test_a_closed_lane_is_passed_over_until_all_open_again():
    queue = Queue(ByProgramName())
    stuck, behind, free = make_waiting(0, "a"), make_waiting(1, "b"), make_waiting(2, "c", pinned="r1")
    for waiting in (stuck, behind, free):
        queue.put(waiting, 0.0)
    queue.open_lanes()
    queue.close_lane(stuck)
    assert queue.first() is free
    queue.open_lanes()
    assert queue.first() is stuck


def test_lanes_leave_nothing_behind():
    queue = Queue(Moods())
    for number in range(100):
        queue.put(make_waiting(number, f"p{number}", pinned=f"r{number}"), 0.0)
    assert len(order_of(queue)) == 100
    assert (len(queue), queue._lanes, dict(queue._programs), queue._places) == (0, {}, {}, {})


def test_entries_that_no_longer_count_are_cleared_away():
    moods = Moods()
    queue = Queue(moods)
    for number, program in enumerate("abc"):
        queue.put(make_waiting(number, program), 0.0)
    for rank in range(1000):
        moods.ranks["", "a"] = rank
        queue.rank_again([("", "a")], 0.0)
        queue.first()
    (lane,) = queue._lanes.values()
    assert len(lane.heap) <= 100


class Model(RuleBasedStateMachine):
    """What waits is a list; who leaves next is its minimum."""

    def __init__(self):
        super().__init__()
        self.moods = Moods()
        self.queue = Queue(self.moods)
        self.waiting = []
        self.closed = set()
        self.numbers = count()

    programs = st.sampled_from("abcd")

    @rule(program=programs, model=st.sampled_from(MODELS), pinned=st.sampled_from(["", "r0"]))
    def put(self, program, model, pinned):
        waiting = make_waiting(next(self.numbers), program, model, pinned)
        self.queue.put(waiting, 0.0)
        self.waiting.append(waiting)
        self.closed = set()
        self.queue.open_lanes()

    @rule(program=programs, rank=st.integers(-2, 2))
    def change_mood(self, program, rank):
        self.moods.ranks["", program] = rank
        self.queue.rank_again([("", program)], 0.0)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data):
        waiting = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        assert self.queue.remove(waiting)
        assert not self.queue.remove(waiting)

    @rule()
    def leave(self):
        first = self.queue.first()
        assert first is self.expected()
        if first is not None:
            assert self.queue.remove(first)
            self.waiting.remove(first)

    @rule()
    def find_no_room(self):
        first = self.queue.first()
        assert first is self.expected()
        if first is not None:
            self.queue.close_lane(first)
            self.closed.add(first.lane)

    @rule()
    def poll_again(self):
        self.queue.open_lanes()
        self.closed = set()

    @invariant()
    def nothing_is_lost(self):
        assert len(self.queue) == len(self.waiting)

    def expected(self):
        open_ones = [each for each in self.waiting if each.lane not in self.closed]
        return min(open_ones, key=lambda each: (self.moods.rank(each, 0.0), each.number), default=None)


TestQueueAgainstModel = Model.TestCase
TestQueueAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
