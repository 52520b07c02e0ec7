"""Bounds of the queue, behind the router's façade: how many may wait, for how long, and what the others are told."""

from collections import Counter

import numpy as np
import pytest
from house import House
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.bounds import DrainRate
from router.core.flow import Flow, QueueLimits
from router.core.types import Outcome, RefusalReason, Request


class Doors:
    """A gate that lets as many through as it has been told."""

    name = "doors"

    def __init__(self, free=0):
        self.free = free

    def room(self, waiting, candidates, view):
        self.free -= 1
        return np.full(len(candidates), self.free >= 0)


class Hall:
    """An admission that holds everybody."""

    name = "hall"

    def __init__(self):
        self.held = []

    def enter(self, waiting, replicas, now):
        self.held.append(waiting)
        return False

    def release(self, held, memories, now):
        return []

    def withdraw(self, waiting):
        self.held.remove(waiting)

    def next_wakeup(self):
        return None


class Busy:
    """A router whose replicas take nothing more until `free`."""

    def __init__(self, admission=None, **limits):
        self.doors = Doors()
        self.house = House(1, flow=Flow(gate=self.doors, admission=admission, limits=QueueLimits(**limits)))

    @property
    def router(self):
        return self.house.router

    def come(self, name="x", tenant=""):
        ticket = self.router.submit(Request(name, "m", tenant=tenant), self.house.now)
        self.poll()
        return ticket

    def poll(self, free=0):
        self.doors.free = free
        return [ticket.request.id for ticket in self.router.poll(self.house.now)]


def reason(ticket):
    return None if ticket.refusal is None else ticket.refusal.reason


def test_one_more_than_may_wait_is_refused_and_the_others_keep_their_places():
    busy = Busy(max_waiting=2)
    assert [reason(busy.come(name)) for name in "abc"] == [None, None, RefusalReason.QUEUE_FULL]
    assert busy.router.waiting == 2
    assert busy.poll(free=2) == ["a", "b"]
    assert busy.router.stats.refused[RefusalReason.QUEUE_FULL] == 1


def test_who_finds_room_at_once_needs_no_place_in_the_queue():
    busy = Busy(max_waiting=0)
    busy.doors.free = 1
    ticket = busy.router.submit(Request("x", "m"), busy.house.now)
    assert busy.router.poll(busy.house.now) == [ticket]
    assert ticket.decision is not None
    assert reason(busy.come()) is RefusalReason.QUEUE_FULL


def test_a_place_that_becomes_free_in_the_same_poll_counts():
    busy = Busy(max_waiting=1)
    busy.come("a")
    late = busy.router.submit(Request("b", "m"), busy.house.now)
    assert busy.poll(free=1) == ["a"]
    assert (reason(late), busy.router.waiting) == (None, 1)


def test_a_tenant_cannot_take_the_places_of_others():
    busy = Busy(max_waiting=5, max_waiting_per_tenant=2, max_waiting_of={"big": 3})
    told = [reason(busy.come(tenant=tenant)) for tenant in ("small",) * 3 + ("big",) * 4]
    full = RefusalReason.TENANT_QUEUE_FULL
    assert told == [None, None, full, None, None, None, full]
    assert busy.router.room.bounds.by_tenant == {"small": 2, "big": 3}
    assert reason(busy.come(tenant="third")) is RefusalReason.QUEUE_FULL


def test_who_has_waited_too_long_is_refused_then_and_no_earlier():
    busy = Busy(max_wait_s=10.0)
    first = busy.come("first")
    busy.house.now += 4
    second = busy.come("second")
    assert busy.router.next_wakeup() == first.submitted_s + 10
    busy.house.now += 6
    assert busy.poll() == ["first"]
    assert (reason(first), reason(second)) == (RefusalReason.QUEUE_TIMEOUT, None)
    assert busy.router.next_wakeup() == second.submitted_s + 10


def test_room_goes_before_time():
    busy = Busy(max_wait_s=10.0)
    ticket = busy.come()
    busy.house.now += 10
    busy.poll(free=1)
    assert ticket.decision is not None


def test_whom_an_admission_holds_counts_too():
    hall = Hall()
    busy = Busy(hall, max_waiting=1, max_wait_s=5.0)
    first, second = busy.come(), busy.come()
    assert reason(second) is RefusalReason.QUEUE_FULL
    assert [waiting.ticket for waiting in hall.held] == [first]
    busy.house.now += 5
    busy.poll()
    assert reason(first) is RefusalReason.QUEUE_TIMEOUT
    assert hall.held == []


def test_a_client_that_leaves_frees_its_place():
    busy = Busy(max_waiting=1)
    busy.router.withdraw(busy.come(), busy.house.now)
    assert reason(busy.come()) is None


def test_retry_after_is_what_those_who_wait_take_to_leave():
    busy = Busy(max_waiting=20)
    for _ in range(20):
        busy.come()
    for _ in range(10):
        busy.house.now += 2
        busy.poll(free=1)
    for _ in range(10):
        busy.come()
    assert busy.come().refusal.retry_after_s == pytest.approx(20 * 2, rel=0.1)


def test_retry_after_grows_while_nobody_leaves_and_stays_within_reason():
    busy = Busy(max_waiting=4)
    for _ in range(4):
        busy.come()
    assert busy.come().refusal.retry_after_s == 1.0
    busy.house.now += 1
    busy.poll(free=1)
    busy.come()
    soon = busy.come().refusal.retry_after_s
    busy.house.now += 5
    later = busy.come().refusal.retry_after_s
    busy.house.now += 1000
    assert 1.0 < soon < later < busy.come().refusal.retry_after_s == 60.0


def test_a_drain_rate_forgets():
    rate = DrainRate()
    rate.begin(0.0)
    for second in range(1, 200):
        rate.observe(float(second))
    assert rate.per_s(199.0) == pytest.approx(1.0)
    for tenth in range(1, 3000):
        rate.observe(199.0 + tenth / 10)
    assert rate.per_s(199.0 + 299.9) == pytest.approx(10.0, rel=0.05)


def test_waits_of_those_that_queued_are_measured():
    busy = Busy()
    busy.come()
    busy.house.now += 3
    busy.poll(free=1)
    assert (busy.router.room.wait_s.total, busy.router.stats.dispatched) == (3.0, 1)


LIMITS = st.builds(
    dict,
    max_waiting=st.none() | st.integers(0, 6),
    max_waiting_per_tenant=st.none() | st.integers(0, 4),
    max_waiting_of=st.dictionaries(st.sampled_from("ab"), st.integers(0, 4)),
    max_wait_s=st.none() | st.integers(1, 8),
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("leave"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("pass"), st.integers(1, 4), st.integers(0, 3)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(LIMITS, EVENTS)
def test_as_a_plain_list_would_do_it(limits, events):
    busy = Busy(**limits)
    queue, refused = [], Counter()

    def settle(free, newcomer):
        """What a poll must return: first those with room, then the newcomer if one too many, then the overdue."""
        left = [queue.pop(0) for _ in range(min(free, len(queue)))]
        gone = [(ticket, None) for ticket in left]
        if newcomer in queue:
            tenant = newcomer.request.tenant
            others = [ticket for ticket in queue if ticket is not newcomer]
            of_tenant = limits["max_waiting_of"].get(tenant, limits["max_waiting_per_tenant"])
            if of_tenant is not None and sum(ticket.request.tenant == tenant for ticket in others) >= of_tenant:
                gone.append((newcomer, RefusalReason.TENANT_QUEUE_FULL))
            elif limits["max_waiting"] is not None and len(others) >= limits["max_waiting"]:
                gone.append((newcomer, RefusalReason.QUEUE_FULL))
            if gone and gone[-1][0] is newcomer:
                queue.remove(newcomer)
        if limits["max_wait_s"] is not None:
            for ticket in [ticket for ticket in queue if ticket.submitted_s + limits["max_wait_s"] <= busy.house.now]:
                queue.remove(ticket)
                gone.append((ticket, RefusalReason.QUEUE_TIMEOUT))
        return gone

    def poll(free, newcomer=None):
        busy.doors.free = free
        expected = settle(free, newcomer)
        told = busy.router.poll(busy.house.now)
        assert [(ticket, reason(ticket)) for ticket in told] == expected
        for ticket in told:
            if ticket.refusal is None:
                busy.router.on_response_end(ticket, None, Outcome.OK, busy.house.now)
            else:
                refused[reason(ticket)] += 1
        assert busy.router.waiting == len(queue)
        assert busy.router.room.bounds.by_tenant == Counter(ticket.request.tenant for ticket in queue)

    for number, (what, which, free) in enumerate(events):
        if what == "come":
            ticket = busy.router.submit(Request(str(number), "m", tenant=which), busy.house.now)
            queue.append(ticket)
            poll(free, ticket)
        elif what == "leave" and queue:
            assert busy.router.withdraw(queue.pop(which % len(queue)), busy.house.now)
        elif what == "pass":
            busy.house.now += which
            poll(free)
    assert {reason: count for reason, count in busy.router.stats.refused.items() if count} == dict(refused)
