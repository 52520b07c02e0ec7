"""program-fcfs: a program that has begun is finished before the next one begins."""

from flow_world import Desk

from flow.orders.program_fcfs import ProgramFcfs
from router.core.flow import Flow


def test_a_later_step_of_an_older_program_goes_first():
    desk = Desk(Flow(ProgramFcfs()))
    first_step = desk.submit("old")
    desk.poll(places=1)
    desk.now = 1
    desk.submit("young")
    desk.end(first_step)
    desk.submit("old")
    assert desk.poll(places=2) == ["old", "young"]


def test_inside_a_program_the_first_come_goes_first():
    desk = Desk(Flow(ProgramFcfs()))
    requests = [desk.submit("a") for _ in range(3)]
    desk.poll(places=1)
    desk.submit("b")
    assert desk.poll(places=9) == ["a", "a", "b"]
    assert [each.ticket.decision is not None for each in requests] == [True] * 3


def test_requests_of_no_program_are_programs_of_their_own():
    desk = Desk(Flow(ProgramFcfs()))
    desk.submit("a")
    desk.now = 1
    desk.submit("")
    desk.now = 2
    desk.submit("a")
    desk.submit("")
    assert desk.poll(places=9) == ["a", "a", "", ""]


def test_a_program_that_was_idle_for_an_hour_is_new():
    desk = Desk(Flow(ProgramFcfs()))
    desk.submit("old")
    desk.poll(places=1)
    desk.now = 3599
    desk.submit("young")
    desk.now = 3600
    desk.submit("old")
    assert desk.poll(places=2) == ["young", "old"]
