import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.in_flight import InFlight
from router.core.load import Load
from router.core.types import LoadReport, Prompt, Request, Ticket


def ticket(tokens, streams=True):
    return Ticket(Request(id="r", model="m", prompt=Prompt(np.zeros(tokens, np.uint32)), streams=streams), 0.0)


def busy(slots=1):
    load = Load()
    for slot in range(slots):
        load.reset(slot, 0)
    return load, InFlight(load)


def weights(load, slot=0):
    return [column[slot] for column in (load.queued, load.started, load.prefill_tokens, load.context_tokens)]


def test_a_request_weighs_its_uncached_tokens_until_it_answers_and_its_context_until_it_ends():
    load, in_flight = busy()
    one = ticket(100)
    in_flight.dispatch(one, 0, uncached_tokens=60, now=0.0, learns=True)
    assert weights(load) == [1, 0, 60, 100]
    in_flight.start(one, 1.0)
    assert weights(load) == [0, 1, 0, 100]
    assert in_flight.end(one)
    assert weights(load) == [0, 0, 0, 0]


def test_ends_count_once_and_starts_after_an_end_count_nothing():
    load, in_flight = busy()
    one = ticket(100)
    in_flight.dispatch(one, 0, 100, now=0.0, learns=True)
    assert in_flight.end(one)
    assert not in_flight.end(one)
    in_flight.start(one, 1.0)
    assert weights(load) == [0, 0, 0, 0]


def test_a_request_that_never_ends_is_given_up():
    load, in_flight = busy()
    in_flight.dispatch(ticket(10), 0, 10, now=0.0, learns=True)
    in_flight.dispatch(ticket(20), 0, 20, now=5.0, learns=True)
    assert in_flight.oldest_s() == 0.0
    assert len(in_flight.give_up(before_s=1.0)) == 1
    assert in_flight.oldest_s() == 5.0
    assert weights(load) == [1, 0, 20, 20]


def test_a_replica_that_reports_nothing_waiting_has_begun_the_older_ones():
    load, in_flight = busy(2)
    in_flight.dispatch(ticket(10), 0, 10, now=0.0, learns=True)
    in_flight.dispatch(ticket(20), 0, 20, now=5.0, learns=True)
    in_flight.dispatch(ticket(30), 1, 30, now=0.0, learns=True)
    in_flight.settle(0, before_s=1.0)
    assert weights(load, 0) == [1, 1, 20, 30]
    assert weights(load, 1) == [1, 0, 30, 30]


def test_work_of_a_replica_that_left_does_not_weigh_on_the_next_in_its_slot():
    load, in_flight = busy()
    old = ticket(100)
    in_flight.dispatch(old, 0, 100, now=0.0, learns=True)
    in_flight.new_tenant(0)
    load.reset(0, 0)
    in_flight.start(old, 1.0)
    in_flight.end(old)
    assert weights(load) == [0, 0, 0, 0]


def test_only_streamed_answers_teach_the_prefill_rate():
    load, in_flight = busy()
    prior = load.prefill_rate[0]
    for streams, expected in ((False, prior), (True, 1000.0)):
        for number in range(5):
            one = ticket(1000, streams)
            in_flight.dispatch(one, 0, 1000, now=number, learns=streams)
            in_flight.start(one, number + 1.0)
            in_flight.end(one)
        assert load.prefill_rate[0] == pytest.approx(expected)


def test_what_is_learned_while_memory_is_short_says_nothing_of_how_fast_a_replica_computes():
    load, in_flight = busy()
    for kv_usage, seconds in ((0.5, 0.1), (0.95, 10.0)):
        load.report(0, LoadReport(running=1, waiting=0, kv_usage=kv_usage))
        for number in range(50):
            one = ticket(1000)
            in_flight.dispatch(one, 0, 1000, now=number, learns=True)
            in_flight.start(one, number + seconds)
            in_flight.end(one)
    assert load.compute_rate(0) == pytest.approx(10_000, rel=0.01)
    assert load.prefill_rate[0] < 1000


def test_reports_add_only_what_weft_did_not_send():
    load, in_flight = busy()
    one, two = ticket(10), ticket(10)
    in_flight.dispatch(one, 0, 10, now=0.0, learns=True)
    in_flight.dispatch(two, 0, 10, now=0.0, learns=True)
    in_flight.start(one, 0.5)
    load.report(0, LoadReport(running=1, waiting=1, kv_usage=0.25))
    assert (load.foreign_queued[0], load.foreign_running[0]) == (0, 0)
    load.report(0, LoadReport(running=4, waiting=3, kv_usage=0.5))
    assert (load.foreign_queued[0], load.foreign_running[0]) == (2, 3)
    assert load.kv_usage[0] == 0.5


steps = st.lists(
    st.tuples(st.sampled_from(["dispatch", "start", "end", "settle", "give_up", "tenant"]), st.integers(0, 9))
)


@given(steps)
def test_whatever_happens_no_load_is_left_when_all_is_over(script):
    load, in_flight = busy(3)
    tickets = []
    for now, (action, number) in enumerate(script):
        if action == "dispatch":
            tickets.append(ticket(number * 10))
            in_flight.dispatch(tickets[-1], number % 3, number * 5, float(now), learns=True)
        elif action == "settle":
            in_flight.settle(number % 3, now - 2.0)
        elif action == "give_up":
            in_flight.give_up(now - 5.0)
        elif action == "tenant":
            in_flight.new_tenant(number % 3)
            load.reset(number % 3, 0)
        elif tickets:
            chosen = tickets[number % len(tickets)]
            in_flight.start(chosen, float(now)) if action == "start" else in_flight.end(chosen)
        assert min(weights(load, 0) + weights(load, 1) + weights(load, 2)) >= 0
    for each in tickets:
        in_flight.end(each)
    assert len(in_flight) == 0
    assert all(weights(load, slot) == [0, 0, 0, 0] for slot in range(3))
