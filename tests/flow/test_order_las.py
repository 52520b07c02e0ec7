"""las: 0.8 * (1 - norm(attained)) + 0.2 * norm(wait of the first), highest first; numbers by hand."""

import pytest
from flow_world import Desk
from hypothesis import given
from hypothesis import strategies as st

from flow.orders.las import LeastAttainedService
from router.core.flow import Flow


def served(desk, program, tokens, completion_tokens=0):
    """The program has attained service: a request of it comes, leaves and ends."""
    each = desk.submit(program, tokens=tokens)
    desk.poll(places=float("inf"))
    desk.end(each, completion_tokens)
    desk.places = 0


def test_who_has_had_least_goes_first():
    desk = Desk(Flow(LeastAttainedService()))
    served(desk, "rich", 1000)
    served(desk, "poor", 10)
    desk.submit("rich")
    desk.submit("poor")
    desk.submit("stranger")
    assert desk.poll(places=3) == ["stranger", "poor", "rich"]


def test_an_output_token_counts_twice():
    desk = Desk(Flow(LeastAttainedService()))
    served(desk, "asks", 300)
    served(desk, "answers", 100, completion_tokens=101)
    desk.submit("answers")
    desk.submit("asks")
    assert desk.poll(places=2) == ["asks", "answers"]


def test_service_halves_every_minute():
    desk = Desk(Flow(LeastAttainedService()))
    served(desk, "before", 1000)
    desk.now = 120
    served(desk, "now", 251)
    desk.submit("now")
    desk.submit("before")
    assert desk.poll(places=2) == ["before", "now"]


def test_what_is_added_later_decays_from_then_on():
    desk = Desk(Flow(LeastAttainedService()))
    served(desk, "twice", 1000)
    desk.now = 60
    served(desk, "twice", 100)
    served(desk, "once", 599)
    desk.submit("twice")
    desk.submit("once")
    assert desk.poll(places=2) == ["once", "twice"]


def test_a_long_wait_outweighs_a_little_service():
    """Attained 1000, 100, 0; first waits of 10, 0, 10 s. Scores: big 0 + .2, small .72 + 0, none .8 + .2; once none has
    left, small .8 + 0 and big 0 + .2."""
    desk = Desk(Flow(LeastAttainedService()))
    served(desk, "big", 1000)
    served(desk, "small", 100)
    desk.submit("big")
    desk.submit("none")
    desk.now = 10
    desk.submit("small")
    assert desk.poll(places=3) == ["none", "small", "big"]


def test_equal_service_leaves_the_wait_to_decide():
    desk = Desk(Flow(LeastAttainedService()))
    desk.submit("first")
    desk.now = 1
    desk.submit("second")
    assert desk.poll(places=2) == ["first", "second"]


def test_wait_can_win_against_service_of_less_weight():
    desk = Desk(Flow(LeastAttainedService(service_weight=0.2, wait_weight=0.8)))
    served(desk, "old", 1000)
    desk.submit("old")
    desk.now = 1
    desk.submit("new")
    assert desk.poll(places=2) == ["old", "new"]


def test_inside_a_program_the_first_come_goes_first():
    desk = Desk(Flow(LeastAttainedService()))
    requests = [desk.submit("a", tokens=tokens) for tokens in (3, 2, 1)]
    assert desk.withdraw(requests[0])
    desk.poll(places=1)
    assert [each.ticket.decision is not None for each in requests] == [False, True, False]


def test_an_hour_without_service_is_forgotten():
    order = LeastAttainedService(half_life_s=1e9)
    desk = Desk(Flow(order))
    served(desk, "rich", 1000)
    desk.now = 3600
    served(desk, "poor", 1)
    desk.submit("poor")
    desk.submit("rich")
    assert desk.poll(places=2) == ["rich", "poor"]


def scores(order, now):
    """llm-d's ``Pick`` in plain words."""
    queues = {key: next(iter(queue)).submitted_s for key, queue in order._queues.items()}
    attained = {key: order._attained(key, now) for key in queues}
    waits = {key: now - since_s for key, since_s in queues.items()}

    def norm(values, key):
        low, high = min(values.values()), max(values.values())
        return 0.5 if low == high else (values[key] - low) / (high - low)

    return {key: 0.8 * (1 - norm(attained, key)) + 0.2 * norm(waits, key) for key in queues}


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 500), st.sampled_from([0, 1, 7])), max_size=25))
def test_whoever_leaves_has_the_highest_score(events):
    order = LeastAttainedService()
    desk = Desk(Flow(order))
    running = []
    for program, tokens, pause_s in events:
        desk.now += pause_s
        running.append(desk.submit(program, tokens=tokens))
        if tokens % 3 == 0:
            expected = scores(order, desk.now)
            (left,) = desk.poll(places=1)
            assert expected["", left] == pytest.approx(max(expected.values()))
        if tokens % 2 and running[0].ticket.dispatched_s is not None:
            desk.end(running.pop(0), completion_tokens=tokens)


def test_of_many_queues_scores_are_told_anew_once_in_so_many_events_and_then_all_of_them():
    order = LeastAttainedService()
    desk = Desk(Flow(order))
    served(desk, "rich", 1000)
    for program in ("rich", *map(str, range(600))):
        desk.submit(program)
    assert len(order.moved(desk.now)) == 601
    told = []
    for number in range(3):
        desk.submit(f"late {number}")
        told.append(len(order.moved(desk.now)))
    assert told == [0, 0, 3]
    assert desk.poll(places=len(desk))[-1] == "rich"
