"""What must hold for critical-path whatever happens: the queue's order, waiting and shares."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program_desk import ProgramDesk

from flow.orders.critical_path import CriticalPath

PROGRAMS = ("p0", "p1", "p2", "p3")

SUBMIT = st.tuples(
    st.just("submit"),
    st.sampled_from(PROGRAMS),
    st.fixed_dictionaries(
        {"tokens": st.sampled_from([16, 2000, 20_000]), "tenant": st.sampled_from(["a", "b"])},
        optional={
            "remaining_steps": st.integers(0, 30),
            "output_tokens": st.integers(1, 3000),
            "join": st.sampled_from(["j0", "j1"]),
            "width": st.integers(0, 6),
            "final": st.booleans(),
            "priority": st.integers(-2, 2),
        },
    ),
)
OTHER = st.tuples(st.sampled_from(["leave", "end", "wait", "withdraw"]), st.integers(0, 5), st.none())
EVENTS = st.lists(SUBMIT | OTHER, max_size=60)


def play(desk, event):
    what, which, hint = event
    if what == "submit":
        desk.submit(which, step=f"s{len(desk.waiting)}", **hint)
    elif what == "leave":
        desk.poll(which)
    elif what == "wait":
        desk.now += 0.7 * which
    elif what == "end" and desk.running:
        running = list(desk.running.values())
        desk.end(running[which % len(running)], completion_tokens=100)
    elif what == "withdraw" and desk.waiting:
        desk.withdraw(list(desk.waiting.values())[which % len(desk.waiting)].request.program.step)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_the_queue_is_always_in_the_order_of_ranking_all_anew(events):
    """Though only the programs of which something became are ranked again."""
    desk = ProgramDesk(CriticalPath(slack_tokens=5000.0))
    for event in events:
        play(desk, event)
        if desk.waiting:
            desk.now += 0.01
            order = desk.ranked()
            assert desk.leave(len(order) // 2) == order[: len(order) // 2]
    assert len(desk.order._standings) <= len(PROGRAMS) * 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([16, 20_000])), min_size=1, max_size=80))
def test_nobody_waits_while_somebody_leaves_that_came_more_than_twice_the_patience_later(arrivals):
    """One comes and one leaves each second, from a backlog of five: strictly by expected cost, some would wait on."""
    desk = ProgramDesk(CriticalPath(patience_s=20.0))
    for number, (remaining, tokens) in enumerate([(5, 16)] * 5 + arrivals):
        desk.submit(f"p{number}", remaining_steps=remaining, tokens=tokens)
        desk.now += 1.0
        if number >= 5:
            (left,) = desk.leave(1)
            assert all(left.submitted_s <= ticket.submitted_s + 40.0 for ticket in desk.waiting)


@pytest.mark.parametrize("weight", [1.0, 3.0])
@given(st.integers(1, 4000), st.integers(1, 4000))
@settings(max_examples=20, deadline=None)
def test_shares_of_tenants_that_always_wait_come_as_close_as_the_slack(weight, a_tokens, b_tokens):
    """Though the one's programs are short and the other's long."""
    slack = 20_000.0
    desk = ProgramDesk(CriticalPath(slack_tokens=slack, review_s=0.5, tenant_weights={"b": weight}))
    had = {"a": 0.0, "b": 0.0}
    for number in range(400):
        for tenant, tokens, remaining in (("a", a_tokens, 0), ("b", b_tokens, 99)):
            if sum(ticket.request.tenant == tenant for ticket in desk.waiting) < 2:
                desk.submit(f"{tenant}{number}", tenant=tenant, tokens=tokens, remaining_steps=remaining)
        (left,) = desk.leave(1)
        had[left.request.tenant] += left.request.prompt_tokens + 2
        desk.end(desk.running[left], completion_tokens=1)
        desk.now += 1.0
    biggest = max(a_tokens, b_tokens) + 1000.0
    assert abs(had["a"] - had["b"] / weight) <= (1 + weight) * (slack + 2 * biggest)


def test_a_tenant_that_was_away_has_saved_nothing_up():
    desk = ProgramDesk(CriticalPath(slack_tokens=10_000.0))
    for number in range(50):
        desk.submit(f"a{number}", tenant="a", tokens=2000, remaining_steps=0)
        (left,) = desk.leave(1)
        desk.end(desk.running[left])
        desk.now += 1.0
    for number in range(50):
        desk.submit(f"a-late{number}", tenant="a", tokens=2000, remaining_steps=0)
        desk.submit(f"b{number}", tenant="b", tokens=2000, remaining_steps=0)
    left = []
    for _ in range(40):
        left += desk.leave(1)
        desk.end(desk.running[left[-1]])
        desk.now += 1.0
    of_b = sum(ticket.request.tenant == "b" for ticket in left)
    assert 12 <= of_b <= 28


def test_nothing_is_kept_of_who_is_gone():
    desk = ProgramDesk(CriticalPath(slack_tokens=1e6))
    for number in range(100):
        desk.submit(f"p{number}", tenant=f"t{number}", tokens=100)
    for ticket in desk.leave(100):
        desk.end(desk.running[ticket])
    desk.now = 10.0
    desk.submit("other", tenant="other", tokens=1000)
    for ticket in desk.leave(1):
        desk.end(desk.running[ticket], completion_tokens=100_000)
    desk.now = 20.0
    desk.leave(0)
    desk.submit("last", tenant="last")
    desk.leave(0)
    assert len(desk.order._standings) == 1
    assert len(desk.order._shares) <= 2
