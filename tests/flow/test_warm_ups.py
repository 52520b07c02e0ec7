"""Warm-ups: a program's last prompt is sent again before it is expected back from its tool, if no replica holds it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warm_up_desk import BLOCK, WarmUpDesk, tokens_of

from flow.orders.critical_path import CriticalPath
from router.core.flow import Mask, Waiting
from router.core.types import Outcome
from router.core.view import Candidates, View

AHEAD_S = 10.0
"""The default."""


class Shut:
    """A gate that lets nobody through while it is shut."""

    name = "shut"
    shut = False

    def room(self, waiting: Waiting, candidates: Candidates, view: View) -> Mask:
        return np.full(len(candidates), not self.shut)


def the_only(sent):
    ((after_s, warm_up),) = sent
    return after_s, warm_up


def test_the_prompt_is_sent_again_shortly_before_a_declared_step_is_due():
    desk = WarmUpDesk()
    desk.away(tool_s=60.0)
    after_s, warm_up = the_only(desk.sent_within(60.0))
    assert 60.0 - AHEAD_S <= after_s < 60.0 - AHEAD_S + 1.0
    assert warm_up.payload == "body of p"
    assert (warm_up.key, warm_up.decision.replica.name) == (("t", "p"), "r0")
    assert desk.router.in_flight == 1


def test_undeclared_programs_are_expected_back_by_what_others_waited():
    desk = WarmUpDesk(ahead_s=5.0)
    for number in range(4):
        desk.end(desk.call(f"before-{number}", 64, step="turn-1"))
        desk.now += 30.0
        desk.end(desk.call(f"before-{number}", 64, step="turn-2", after=("turn-1",), final=True))
    desk.end(desk.call("p", step="turn-1", remaining_steps=1))
    after_s, _ = the_only(desk.sent_within(60.0))
    assert 20.0 < after_s < 31.0


def test_one_warm_up_is_sent_in_a_wait():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(12.0))
    desk.over(warm_up)
    desk.now += 10.0
    assert desk.sent_within(300.0) == []


def test_nothing_is_sent_while_a_replica_holds_the_prompt():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0, tokens=4096)
    desk.held("r0", tokens_of("t/p", 4096))
    assert desk.sent_within(40.0) == []


@pytest.mark.parametrize(("held_tokens", "sends"), [(2048 - BLOCK, 1), (2048 + BLOCK, 0)])
def test_what_lacks_little_is_not_worth_it(held_tokens, sends):
    desk = WarmUpDesk(least_tokens=2048)
    desk.away(tool_s=20.0, tokens=4096)
    desk.held("r0", tokens_of("t/p", held_tokens))
    assert len(desk.sent_within(40.0)) == sends


def test_programs_that_do_not_go_on_are_not_kept():
    desk = WarmUpDesk()
    desk.end(desk.call("done", final=True))
    desk.end(desk.call("stranger"))
    desk.end(desk.call("failed", remaining_steps=3), outcome=Outcome.FAILED)
    assert len(desk.warm_ups.kept) == 0
    assert desk.sent_within(100.0) == []


def test_a_program_that_its_client_ended_is_let_go():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    desk.router.programs.forget(("t", "p"), desk.now)
    assert desk.sent_within(60.0) == []
    assert len(desk.warm_ups.kept) == desk.warm_ups.kept.bytes == 0


def test_a_program_is_not_warmed_while_another_call_of_it_is_open():
    desk = WarmUpDesk()
    first = desk.call("p", step="a", remaining_steps=2)
    second = desk.call("p", step="b", remaining_steps=2)
    desk.end(first)
    assert desk.sent_within(60.0) == []
    desk.end(second)
    assert len(desk.sent_within(60.0)) == 1


def test_nothing_is_sent_while_any_request_waits():
    gate = Shut()
    desk = WarmUpDesk(gate=gate)
    desk.away(tool_s=20.0)
    gate.shut = True
    waits = desk.call("other", 64)
    assert waits.decision is None
    assert desk.sent_within(30.0) == []
    gate.shut = False
    desk.router.poll(desk.now)
    desk.end(waits)
    assert len(desk.sent_within(5.0)) == 1


def test_nothing_is_sent_to_a_replica_that_works_or_for_which_the_gate_has_no_room():
    gate = Shut()
    desk = WarmUpDesk(gate=gate)
    desk.away(tool_s=20.0)
    busy = desk.call("other", 64)
    assert desk.sent_within(15.0) == []
    desk.end(busy)
    gate.shut = True
    assert desk.sent_within(2.0) == []
    gate.shut = False
    assert len(desk.sent_within(2.0)) == 1


def test_a_replica_that_only_answers_counts_as_idle_as_far_as_it_is_allowed():
    desk = WarmUpDesk(most_running=1)
    desk.away(tool_s=20.0)
    calls = [desk.call("other", 64, text=text) for text in "ab"]
    assert desk.sent_within(15.0) == []
    desk.end(calls[0])
    assert desk.sent_within(2.0) == []
    desk.router.on_response_start(calls[1], desk.now)
    assert len(desk.sent_within(2.0)) == 1


def test_the_idle_replica_is_chosen_that_holds_most():
    desk = WarmUpDesk(replicas=3)
    desk.away(tool_s=20.0, tokens=4096)
    desk.held("r2", tokens_of("t/p", 2048))
    _, warm_up = the_only(desk.sent_within(40.0))
    assert warm_up.decision.replica.name == "r2"
    assert warm_up.decision.cached_tokens == warm_up.held_tokens == 2048


def test_as_many_run_at_once_as_are_allowed():
    desk = WarmUpDesk(replicas=4, max_in_flight=2)
    for number in range(4):
        desk.away(f"p{number}", tool_s=20.0)
    sent = [each for _, each in desk.sent_within(18.0)]
    assert len(sent) == 2
    assert len({each.decision.replica.name for each in sent}) == 2
    desk.over(sent[0])
    assert len(desk.sent_within(2.0)) == 1


def test_no_more_are_sent_in_a_minute_than_are_allowed():
    desk = WarmUpDesk(max_per_minute=3)
    for number in range(8):
        desk.away(f"p{number}", tool_s=120.0)
    times = []
    while desk.now < 1000.0 + 200.0:
        for _, warm_up in desk.sent_within(1.0):
            desk.over(warm_up)
            times.append(desk.now)
    assert len(times) > 3
    assert all(sum(since <= each < since + 59.0 for each in times) <= 3 for since in times)


def test_the_warm_up_is_no_call_of_its_program_and_nobody_counts_it():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    before = desk.router.stats.dispatched, desk.router.stats.prompt_tokens, desk.router.programs.following
    _, warm_up = the_only(desk.sent_within(15.0))
    assert (desk.router.load.prefill_tokens[0], desk.router.in_flight) == (4096, 1)
    desk.over(warm_up)
    assert (desk.router.load.prefill_tokens[0], desk.router.in_flight) == (0, 0)
    assert (desk.router.stats.dispatched, desk.router.stats.prompt_tokens, desk.router.programs.following) == before
    assert desk.router.programs.table.get(("t", "p")).calls == 1


@pytest.mark.parametrize(("order", "priority"), [(CriticalPath(), 2**31 - 1), (None, None)])
def test_where_engines_are_told_priorities_it_has_the_lowest(order, priority):
    desk = WarmUpDesk(order=order)
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(15.0))
    assert warm_up.decision.priority == priority


def test_what_was_gained_is_what_the_next_call_found_cached_beyond_what_was_held_before():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0, tokens=4096)
    desk.held("r0", tokens_of("t/p", 1024))
    _, warm_up = the_only(desk.sent_within(19.0))
    desk.over(warm_up, cached_tokens=1024)
    desk.end(desk.call("p", 4500, step="act"), cached_tokens=4096)
    stats = desk.warm_ups.stats
    assert (stats.sent, stats.computed_tokens, stats.gained_tokens) == (1, 3072, 3072)
    assert desk.results == {"used": 1}


def test_a_call_that_finds_no_more_than_there_was_is_a_loss():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(19.0))
    desk.over(warm_up)
    desk.end(desk.call("p", step="act"), cached_tokens=0)
    assert desk.results == {"lost": 1}
    assert desk.warm_ups.stats.gained_tokens == 0


def test_a_call_that_runs_elsewhere_gains_nothing():
    desk = WarmUpDesk(replicas=2)
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(19.0))
    desk.over(warm_up)
    desk.router.on_replica_gone(warm_up.decision.replica.name, desk.now)
    desk.end(desk.call("p", step="act"), cached_tokens=0)
    assert desk.results == {"elsewhere": 1}


def test_a_program_that_does_not_come_back_is_given_up():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(19.0))
    desk.over(warm_up)
    desk.sent_within(2000.0)
    assert desk.results == {"no_return": 1}
    assert len(desk.warm_ups.kept) == desk.warm_ups.kept.bytes == 0
    assert desk.warm_ups.next_wakeup() is None


def test_the_warm_up_stops_when_its_program_comes_first():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(15.0))
    back = desk.call("p", step="act")
    assert desk.poll().stop == [warm_up]
    desk.over(warm_up, Outcome.CLIENT_GONE)
    desk.end(back, cached_tokens=2048)
    assert desk.results == {"late": 1}
    assert desk.warm_ups.stats.gained_tokens == 2048


def test_the_warm_up_makes_way_for_whoever_is_sent_to_its_replica():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(15.0))
    other = desk.call("other", 64)
    assert desk.poll().stop == [warm_up]
    assert desk.poll().stop == []
    desk.over(warm_up, Outcome.CLIENT_GONE)
    desk.end(other)
    desk.end(desk.call("p", step="act"), cached_tokens=1024)
    assert desk.results == {"used": 1}
    assert desk.warm_ups.stats.cut_short == 1


def test_nobody_is_told_to_stop_what_is_over():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(15.0))
    desk.call("other", 64)
    desk.over(warm_up)
    assert desk.poll() == ([], [])


def test_the_warm_up_goes_on_while_others_go_elsewhere():
    desk = WarmUpDesk(replicas=2)
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(15.0))
    other = desk.call("other", 64)
    assert other.decision.replica != warm_up.decision.replica
    assert desk.poll().stop == []


def test_the_warm_up_makes_way_when_somebody_has_to_wait():
    gate = Shut()
    desk = WarmUpDesk(gate=gate)
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(15.0))
    gate.shut = True
    desk.call("other", 64)
    assert desk.warm_ups.next_wakeup() <= desk.now + 0.05
    assert desk.poll().stop == [warm_up]


def test_what_a_replica_does_not_take_is_not_tried_again():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(11.0))
    desk.over(warm_up, Outcome.FAILED)
    assert desk.sent_within(100.0) == []
    assert desk.results == {"failed": 1}
    assert desk.warm_ups.stats.computed_tokens == 0


def test_only_so_many_calls_are_kept_least_recent_dropped():
    desk = WarmUpDesk(max_kept=2)
    for number in range(5):
        desk.away(f"p{number}", tool_s=20.0)
    assert len(desk.warm_ups.kept) == 2
    assert desk.warm_ups.stats.dropped == 3
    assert [desk.warm_ups.kept.get(("t", f"p{number}")) is not None for number in range(5)] == [False] * 3 + [True] * 2


def test_only_so_many_bytes_are_kept():
    desk = WarmUpDesk(max_kept_bytes=50_000)
    for number in range(5):
        desk.away(f"p{number}", tool_s=20.0, tokens=4096)
        assert desk.warm_ups.kept.bytes <= 50_000
    assert len(desk.warm_ups.kept) == 2
    desk.away("large", tool_s=20.0, tokens=40_000)
    assert len(desk.warm_ups.kept) == desk.warm_ups.kept.bytes == 0


def test_tenants_with_programs_of_one_name_do_not_meet():
    desk = WarmUpDesk(replicas=2, max_in_flight=2)
    desk.away("p", tool_s=20.0, tenant="a")
    desk.away("p", tool_s=20.0, tenant="b")
    sent = {each.key: each for _, each in desk.sent_within(15.0)}
    assert set(sent) == {("a", "p"), ("b", "p")}
    back = desk.call("p", step="act", tenant="a")
    assert desk.poll().stop == [sent["a", "p"]]
    assert back.decision.replica == sent["a", "p"].decision.replica


def test_a_body_that_was_not_kept_is_not_warmed():
    desk = WarmUpDesk()
    desk.declare("p", ("plan", 0.0), ("act", 20.0))
    desk.end(desk.call("p", step="plan", keeps=False))
    assert desk.sent_within(100.0) == []


def test_a_router_that_is_told_late_of_an_end_forgets_nothing():
    desk = WarmUpDesk()
    desk.away(tool_s=20.0)
    _, warm_up = the_only(desk.sent_within(15.0))
    desk.now += 1000.0
    desk.router.poll(desk.now)
    assert desk.router.in_flight == 0
    desk.over(warm_up)
    assert desk.warm_ups.stats.computed_tokens == 4096


ACTIONS = st.lists(st.tuples(st.sampled_from(["away", "call", "end", "over", "wait"]), st.integers(0, 5)), max_size=60)


@settings(max_examples=40)
@given(ACTIONS)
def test_whatever_happens_bounds_hold_and_every_warm_up_is_settled_once(actions):
    desk = WarmUpDesk(replicas=2, max_in_flight=2, max_kept=3, max_per_minute=5)
    stats = desk.warm_ups.stats
    open_calls, running = [], []
    for action, number in actions:
        if action == "away":
            desk.away(f"p{number}", tool_s=5.0 * number)
        elif action == "call":
            open_calls.append(desk.call(f"p{number}", remaining_steps=2))
        elif action == "end" and open_calls:
            desk.end(open_calls.pop(number % len(open_calls)))
        elif action == "over" and running:
            desk.over(running.pop(0), Outcome.OK if number else Outcome.FAILED)
        elif action == "wait":
            running += [each for _, each in desk.sent_within(float(number))]
        send, stop = desk.poll()
        running += send
        for each in stop:
            running.remove(each)
            desk.over(each, Outcome.CLIENT_GONE)
        assert len(running) <= 2
        assert len(desk.warm_ups.kept) <= 3
        assert sum(desk.results.values()) <= stats.sent
    for ticket in open_calls:
        desk.end(ticket)
    while running or desk.warm_ups.next_wakeup() is not None:
        for each in running:
            desk.over(each)
        running = [each for _, each in desk.sent_within(1.0)]
    assert sum(desk.results.values()) == stats.sent
    assert len(desk.warm_ups.kept) == desk.warm_ups.kept.bytes == desk.router.in_flight == 0
