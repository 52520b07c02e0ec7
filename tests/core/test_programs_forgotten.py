"""A program that is deleted, declared anew or evicted while its requests wait: they go their way, and nothing stays."""

import gc

import numpy as np
import pytest
from house import House, prompt

from flow.admission.working_set import WorkingSet
from flow.orders.critical_path import CriticalPath
from flow.orders.srpt import Srpt
from router.core.flow import Fcfs, Flow
from router.core.programs.declare import read_declaration
from router.core.programs.step import State, Step
from router.core.programs.table import TableLimits
from router.core.programs.tracker import Programs
from router.core.types import Outcome, ProgramHint, Usage

GRAPH = read_declaration({"steps": [{"name": "plan"}, {"name": "act", "after": ["plan"]}]})


class Door:
    """A gate that is open or closed."""

    name = "door"

    def __init__(self):
        self.open = False

    def room(self, waiting, candidates, view):
        return np.full(len(candidates), self.open)


@pytest.fixture(params=[Fcfs, CriticalPath, Srpt])
def order(request):
    return request.param()


@pytest.fixture(params=[None, WorkingSet])
def admission(request):
    return request.param and request.param()


@pytest.fixture
def door():
    return Door()


@pytest.fixture
def house(order, admission, door):
    flow = Flow(order, gate=door, admission=admission)
    return House(2, flow=flow, programs=Programs(TableLimits(max_programs=3)))


def submit(house, name="p", content="task", **hint):
    """Comes and waits."""
    named = prompt((content, 200), (name, 200))
    ticket = house.router.submit(house.request(named, program=ProgramHint(name, **hint)), house.now)
    assert house.router.poll(house.now) == []
    return ticket


def let_all_go(house, door, tickets):
    door.open = True
    house.now += 1.0
    left = house.router.poll(house.now)
    assert sorted(map(id, left)) == sorted(map(id, tickets))
    for ticket in left:
        house.router.on_response_start(ticket, house.now + 1.0)
        house.router.on_response_end(ticket, Usage(400, 0, 10), Outcome.OK, house.now + 2.0)
    house.now += 2.0
    door.open = False


def assert_nothing_is_under_way(house):
    assert (house.router.waiting, house.router.in_flight, house.router.programs.following) == (0, 0, 0)
    assert all(program.open == 0 for program in house.router.programs.table)
    standings = getattr(house.router.order, "_standings", ())
    assert len(standings) == 0


def test_deleted_while_its_requests_wait(house, door):
    tickets = [submit(house, step="a", join="sum", width=3), submit(house, step="b", join="sum", width=3)]
    assert house.router.programs.forget(("", "p"), house.now)
    assert house.router.poll(house.now) == []
    let_all_go(house, door, tickets)
    assert len(house.router.programs.table) == 0
    assert_nothing_is_under_way(house)


def test_deleted_and_come_again_under_its_name(house, door):
    old = submit(house, step="a")
    house.router.programs.forget(("", "p"), house.now)
    new = submit(house, step="a")
    assert house.router.programs.table.get(("", "p")).waiting == 1
    let_all_go(house, door, [old, new])
    assert house.router.programs.table.get(("", "p")).calls == 1
    assert_nothing_is_under_way(house)


def test_deleted_and_then_its_clients_leave(house, door):
    tickets = [submit(house, step=step) for step in "ab"]
    house.router.programs.forget(("", "p"), house.now)
    assert all(house.router.withdraw(ticket, house.now) for ticket in tickets)
    assert_nothing_is_under_way(house)


def test_declared_anew_while_its_requests_wait(house, door):
    tickets = [submit(house, step="plan", join="sum", width=3), submit(house, step="other", remaining_steps=5)]
    house.router.programs.declare(("", "p"), GRAPH, house.now)
    house.router.programs.declare(("", "p"), GRAPH, house.now)
    let_all_go(house, door, tickets)
    act = submit(house, step="act")
    let_all_go(house, door, [act])
    steps = house.router.programs.table.get(("", "p")).steps
    assert {name: steps[name].state for name in ("plan", "other", "act")} == dict.fromkeys(
        ("plan", "other", "act"), State.DONE
    )
    assert_nothing_is_under_way(house)


def test_evicted_by_declarations_while_its_requests_wait(house, door):
    tickets = [submit(house, step="a"), submit(house, step="b", after=("a",))]
    for number in range(5):
        house.router.programs.declare(("", f"{number}"), GRAPH, house.now)
    assert house.router.programs.table.get(("", "p")) is None
    let_all_go(house, door, tickets)
    assert_nothing_is_under_way(house)


def test_one_that_nobody_named_is_forgotten_while_it_waits(house, door):
    ticket = house.router.submit(house.request(prompt(("task", 400))), house.now)
    house.router.poll(house.now)
    house.router.programs.forget(ticket.request.program_key, house.now)
    again = house.router.submit(house.request(prompt(("task", 400), ("more", 100))), house.now)
    let_all_go(house, door, [ticket, again])
    assert_nothing_is_under_way(house)


def test_a_forgotten_program_leaves_memory_with_its_last_call():
    def steps():
        return sum(isinstance(each, Step) for each in gc.get_objects())

    house = House(2, programs=Programs())
    gc.collect()
    before = steps()
    gc.disable()
    try:
        calls = [house.ask(prompt((step, 64)), program=ProgramHint("p", step, join="sum", width=3)) for step in "ab"]
        assert house.router.programs.forget(("", "p"), house.now)
        assert steps() - before == 3, "two calls and the step that waits for them"
        for ticket in calls:
            house.router.on_response_end(ticket, None, Outcome.OK, house.now)
        assert steps() == before
    finally:
        gc.enable()
