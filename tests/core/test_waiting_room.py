"""The waiting room, behind the router's façade: who is held, who queues, who leaves where, and who is told."""

from collections import Counter

import numpy as np
import pytest
from house import House, prompt
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.admission.thunder_agent import ThunderAgent
from flow.gates.all_busy import AllBusy
from flow.gates.step_budget import StepBudget
from flow.orders.las import LeastAttainedService
from flow.orders.plas import plas
from flow.orders.program_fcfs import ProgramFcfs
from flow.orders.wspt import Wspt
from router.core.flow import Fcfs, Flow
from router.core.types import Health, LoadReport, Outcome, RefusalReason, Request, Usage


class Doorkeeper:
    """A gate that knows which replicas are free."""

    name = "doorkeeper"

    def __init__(self, *free):
        self.free = set(free)

    def room(self, waiting, candidates, view):
        return np.array([replica.name in self.free for replica in candidates.replicas])


class Anteroom:
    """An admission that holds everybody until it opens, and then sends all to r1."""

    name = "anteroom"

    def __init__(self):
        self.held = []
        self.opened = False
        self.memories = []

    def enter(self, waiting, replicas, now):
        self.memories = list(replicas)
        self.held.append(waiting)
        return False

    def release(self, held, memories, now):
        if not self.opened:
            return []
        for waiting in self.held:
            waiting.pinned = "r1"
        released, self.held = self.held, []
        return released

    def withdraw(self, waiting):
        self.held.remove(waiting)

    def next_wakeup(self):
        return 123.0 if self.held else None


class Diary:
    """An order that writes down what it is told."""

    name = "diary"

    def __init__(self):
        self.lines = []

    def rank(self, waiting, now):
        return ()

    def submitted(self, waiting, now):
        self.lines.append(f"{waiting.request.id} submitted")

    def dispatched(self, waiting, now):
        self.lines.append(f"{waiting.request.id} dispatched to {waiting.ticket.decision.replica.name}")

    def withdrawn(self, waiting, now):
        self.lines.append(f"{waiting.request.id} withdrawn")

    def ended(self, ticket, usage, outcome, now):
        self.lines.append(f"{ticket.request.id} {outcome.value}")


def submit(house, name="x", content=None, **request):
    return house.router.submit(Request(name, "m", content, streams=True, **request), house.now)


def poll(house):
    """The names of those that leave."""
    return [ticket.request.id for ticket in house.router.poll(house.now)]


def test_without_a_flow_everybody_leaves_at_the_next_poll_in_order():
    house = House(2)
    for name in "cab":
        submit(house, name)
    assert (poll(house), house.router.waiting) == (["c", "a", "b"], 0)


def test_requests_wait_while_no_replica_has_room_and_leave_to_the_one_that_has():
    gate = Doorkeeper()
    house = House(3, flow=Flow(gate=gate))
    ticket = submit(house)
    assert (poll(house), house.router.waiting, house.router.in_flight) == ([], 1, 0)
    gate.free = {"r1"}
    house.now += 5
    assert poll(house) == ["x"]
    assert (ticket.decision.replica.name, ticket.dispatched_s - ticket.submitted_s) == ("r1", 5.0)


def test_the_replica_is_chosen_when_a_request_leaves():
    gate = Doorkeeper()
    house = House(2, flow=Flow(gate=gate))
    content = prompt(("late", 256))
    ticket = submit(house, content=content)
    assert poll(house) == []
    house.stored("r1", content)
    gate.free = {"r0", "r1"}
    assert poll(house) == ["x"]
    assert (ticket.decision.replica.name, ticket.decision.cached_tokens) == ("r1", 240)


def test_who_can_go_elsewhere_does_not_wait_behind_who_cannot():
    house = House(2, flow=Flow(gate=Doorkeeper("r1")))
    submit(house, "stuck", subset=frozenset({"r0"}))
    submit(house, "behind", subset=frozenset({"r0"}))
    submit(house, "free", subset=frozenset({"r1"}))
    assert (poll(house), house.router.waiting) == (["free"], 2)


def test_an_admission_holds_and_its_pin_decides():
    anteroom = Anteroom()
    house = House(3, flow=Flow(admission=anteroom))
    ticket = submit(house)
    assert (poll(house), house.router.waiting, house.router.next_wakeup()) == ([], 1, 123.0)
    anteroom.opened = True
    assert poll(house) == ["x"]
    assert ticket.decision.replica.name == "r1"
    assert house.router.next_wakeup() > 123.0


def test_a_pin_to_a_replica_that_is_not_there_does_not_bind():
    anteroom = Anteroom()
    house = House(2, flow=Flow(admission=anteroom))
    ticket = submit(house)
    house.router.on_health("r1", Health.UNHEALTHY, house.now)
    anteroom.opened = True
    assert poll(house) == ["x"]
    assert ticket.decision.replica.name == "r0"


def test_an_admission_sees_the_memory_of_healthy_replicas():
    anteroom = Anteroom()
    house = House(2, flow=Flow(admission=anteroom), capacity_blocks=100)
    house.add("sick")
    house.router.on_health("sick", Health.UNHEALTHY, house.now)
    house.router.on_load("r1", LoadReport(running=1, waiting=0, kv_usage=0.25), house.now)
    submit(house)
    seen = [(memory.name, memory.capacity_tokens, memory.used_tokens, memory.model) for memory in anteroom.memories]
    assert seen == [("r0", 1600, 0, "m"), ("r1", 1600, 400, "m")]


@pytest.mark.parametrize("flow", [Flow(gate=Doorkeeper()), Flow(admission=Anteroom())])
def test_a_client_that_leaves_takes_its_request_along(flow):
    house = House(1, flow=flow)
    tickets = [submit(house), submit(house)]
    assert house.router.withdraw(tickets[0], house.now)
    poll(house)
    assert house.router.withdraw(tickets[1], house.now)
    assert not house.router.withdraw(tickets[1], house.now)
    assert (poll(house), house.router.waiting, house.router.stats.withdrawn) == ([], 0, 2)


def test_a_request_that_loses_its_replicas_while_it_waits_is_refused():
    diary = Diary()
    house = House(1, flow=Flow(diary, Doorkeeper()))
    ticket = submit(house, "late")
    poll(house)
    house.router.on_health("r0", Health.UNHEALTHY, house.now)
    assert poll(house) == ["late"]
    assert ticket.refusal.reason is RefusalReason.NO_REPLICA
    assert diary.lines == ["late submitted", "late withdrawn"]


def test_a_part_that_watches_is_told_of_everything():
    diary, gate = Diary(), Doorkeeper()
    house = House(1, flow=Flow(diary, gate))
    gone, done, lost = [submit(house, name) for name in ("gone", "done", "lost")]
    house.router.withdraw(gone, house.now)
    gate.free = {"r0"}
    poll(house)
    house.router.on_response_end(done, None, Outcome.OK, house.now)
    house.now += house.router.settings.in_flight_timeout_s
    poll(house)
    house.router.on_response_end(lost, None, Outcome.OK, house.now)
    assert diary.lines == [
        *("gone submitted", "done submitted", "lost submitted", "gone withdrawn"),
        *("done dispatched to r0", "lost dispatched to r0", "done ok", "lost timeout"),
    ]


class Witness:
    """A gate that remembers what it answered last."""

    name = "witness"

    def __init__(self, gate):
        self.gate = gate
        self.found_room = True

    def room(self, waiting, candidates, view):
        room = self.gate.room(waiting, candidates, view)
        self.found_room = bool(room.any())
        return room


ORDERS = [Fcfs, ProgramFcfs, LeastAttainedService, Wspt, plas]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ORDERS),
    st.sampled_from([lambda: StepBudget(1, 64), lambda: AllBusy(1, 64)]),
    st.booleans(),
    st.lists(
        st.one_of(
            st.tuples(st.just("submit"), st.integers(0, 3), st.integers(1, 400)),
            st.tuples(st.just("start"), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("end"), st.integers(0, 9), st.integers(1, 60)),
            st.tuples(st.just("withdraw"), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("wait"), st.integers(0, 40), st.just(0)),
        ),
        max_size=50,
    ),
)
def test_nothing_is_lost_nothing_leaves_twice_and_everybody_leaves_in_the_end(make_order, make_gate, admits, events):
    gate = Witness(make_gate())
    flow = Flow(make_order(), gate, ThunderAgent(tick_s=5.0, longest_hold_s=50.0) if admits else None)
    house = House(2, flow=flow, capacity_blocks=100)
    waiting, running, left = [], [], Counter()

    def let_go():
        for ticket in house.router.poll(house.now):
            waiting.remove(ticket)
            running.append(ticket)
            left[ticket.request.id] += 1
        assert house.router.waiting == len(waiting)
        if waiting and not admits:
            assert running, "a replica that does nothing has room"
            assert not gate.found_room, "nobody waits while there is room"

    def end(ticket, completion_tokens):
        usage = Usage(ticket.request.prompt_tokens, 0, completion_tokens)
        house.router.on_response_end(ticket, usage, Outcome.OK, house.now)

    for number, (what, which, amount) in enumerate(events):
        if what == "submit":
            content = prompt((f"p{which}", 16 * which + 1), (f"q{number}", amount))
            waiting.append(submit(house, str(number), content, session_id=f"p{which}"))
        elif what == "start" and running:
            house.router.on_response_start(running[which % len(running)], house.now)
        elif what == "end" and running:
            end(running.pop(which % len(running)), amount)
        elif what == "withdraw" and waiting:
            assert house.router.withdraw(waiting.pop(which % len(waiting)), house.now)
        elif what == "wait":
            house.now += which
        let_go()
    for _ in range(len(waiting) + 60):
        while running:
            end(running.pop(), 1)
        house.now += 5
        let_go()
    assert not waiting
    assert set(left.values()) <= {1}
