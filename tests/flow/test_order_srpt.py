"""srpt: the program with the least expected work left goes first."""

from program_desk import ProgramDesk

from flow.orders.srpt import Srpt


def test_the_program_with_least_work_left_goes_first():
    desk = ProgramDesk(Srpt())
    desk.submit("much", remaining_steps=9)
    desk.submit("little", remaining_steps=1)
    assert desk.poll(2) == ["little", "much"]


def test_inside_a_program_first_come_first_served():
    desk = ProgramDesk(Srpt())
    desk.submit("p", step="first", remaining_steps=1)
    desk.submit("p", step="second", remaining_steps=9)
    assert desk.poll_steps(2) == ["first", "second"]


def test_what_is_done_is_left_no_more():
    desk = ProgramDesk(Srpt())
    running = [desk.submit("wide", step=f"s{i}", remaining_steps=0, output_tokens=1000) for i in range(9)]
    desk.poll(9)
    desk.submit("wide", step="s9", remaining_steps=0, output_tokens=1000)
    desk.submit("long", remaining_steps=0, output_tokens=3000)
    assert desk.peek() == ["long", "wide"]
    for each in running:
        desk.end(each, completion_tokens=1000)
    assert desk.poll(2) == ["wide", "long"]


def test_without_programs_first_come_first_served():
    desk = ProgramDesk(Srpt(), follow=False)
    desk.submit("long", remaining_steps=20)
    desk.submit("short", remaining_steps=0)
    assert desk.poll(2) == ["long", "short"]


def test_a_graph_that_is_declared_while_its_first_step_waits_counts_at_once():
    desk = ProgramDesk(Srpt())
    desk.submit("known", remaining_steps=3)
    desk.submit("told", step="a", remaining_steps=9)
    assert desk.peek() == ["known", "told"]
    desk.declare("told", {"name": "a", "output_tokens": 10})
    assert desk.poll(2) == ["told", "known"]
