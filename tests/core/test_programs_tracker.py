"""A router that follows programs: every request has a step, and its step is told what becomes of it."""

from house import House, prompt
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.programs.step import State
from router.core.programs.tracker import Programs
from router.core.types import Outcome, ProgramHint, Usage


def following(**options):
    return House(2, programs=Programs(), **options)


def test_a_hinted_request_is_a_step_of_its_program():
    house = following()
    ticket = house.ask(prompt(("system", 64)), program=ProgramHint("trip", step="plan", kind="planner"), tenant="acme")
    program = house.router.programs.table.get(("acme", "trip"))
    assert program.kind == "planner"
    assert program.steps["plan"].state is State.RUNNING
    house.router.on_response_end(ticket, Usage(64, 0, 10), Outcome.OK, house.now + 1)
    assert program.steps["plan"].state is State.DONE
    assert program.attained_tokens == 74


def test_a_conversation_that_nobody_named_is_one_program():
    house = following()
    content = [("question", 400)]
    for turn in range(3):
        ticket = house.ask(prompt(*content))
        house.router.on_response_end(ticket, None, Outcome.OK, house.now)
        house.now += 5
        content.append((f"turn {turn}", 300))
    house.ask(prompt(("another", 500)))
    assert [program.calls for program in house.router.programs.table] == [3]
    house.ask(prompt(("another", 500), ("goes on", 300)))
    assert [program.calls for program in house.router.programs.table] == [3, 2]


def test_a_session_is_a_program_and_needs_no_lineage():
    house = following()
    house.ask(prompt(("a", 300)), session_id="s")
    house.ask(prompt(("b", 300)), session_id="s")
    assert [program.calls for program in house.router.programs.table] == [2]
    assert len(house.router.programs.lineage) == 0


def test_who_goes_while_waiting_leaves_no_open_call():
    house = following()
    ticket = house.router.submit(house.request(prompt(("a", 64)), program=ProgramHint("p", step="s")), house.now)
    assert house.router.withdraw(ticket, house.now)
    assert house.router.programs.table.get(("", "p")).open == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(Outcome)), st.booleans()), max_size=20))
def test_nothing_is_kept_of_requests_that_are_over(calls):
    house = following()
    tickets = []
    for name, outcome, streams in calls:
        hint = None if name == "c" else ProgramHint(name)
        tickets.append((house.ask(prompt((name, 40)), program=hint, streams=streams), outcome))
        house.now += 1
    for ticket, outcome in tickets:
        house.router.on_response_start(ticket, house.now)
        house.router.on_response_end(ticket, None, outcome, house.now)
    assert house.router.programs.following == 0
    assert all(program.open == 0 for program in house.router.programs.table)
