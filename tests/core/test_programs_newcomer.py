"""Requests that nothing names and that go on from nothing: steps when that matters, and then as if they always were."""

from house import House, prompt
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.admission.working_set import WorkingSet
from flow.gates.step_budget import StepBudget
from flow.orders.critical_path import CriticalPath
from router.core.flow import Fcfs, Flow
from router.core.programs.budgets import Budget, Budgets
from router.core.programs.describe import describe
from router.core.programs.tracker import Programs
from router.core.types import Outcome, ProgramHint, Usage


class Curious(Fcfs):
    """An order that looks at each request's step when it comes."""

    def submitted(self, waiting, now):
        assert waiting.step.request_id == waiting.request.id

    def dispatched(self, waiting, now):
        pass

    def withdrawn(self, waiting, now):
        assert waiting.step is not None

    def ended(self, ticket, usage, outcome, now):
        pass


def programs_of(house):
    return list(house.router.programs.table)


def test_a_request_of_which_nothing_more_is_heard_is_no_program():
    house = House(2, programs=Programs(tenants=["acme"]))
    for content in (prompt(("one", 400)), prompt(("two", 7)), None):
        ticket = house.ask(content, tenant="acme")
        assert house.router.programs.following == 1
        house.router.on_response_start(ticket, house.now)
        house.router.on_response_end(ticket, Usage(100, 20, 5), Outcome.OK, house.now)
    assert programs_of(house) == []
    assert house.router.programs.following == 0
    assert house.router.programs.tenant_tokens["acme"] == 3 * 85


def test_the_answer_of_one_that_was_rejected_cost_nothing():
    house = House(2, programs=Programs(tenants=["acme"]))
    ticket = house.ask(prompt(("one", 400)), tenant="acme")
    house.router.on_response_end(ticket, None, Outcome.REJECTED, house.now)
    assert house.router.programs.tenant_tokens["acme"] == 0


def test_under_the_order_and_the_admission_for_programs_it_is_no_step_while_there_is_room():
    house = House(2, flow=Flow(CriticalPath(), StepBudget(), WorkingSet()), programs=Programs())
    for number in range(3):
        ticket = house.ask(prompt((str(number), 4000)))
        house.now += 1.0
        house.router.on_response_end(ticket, Usage(4000, 0, 5), Outcome.OK, house.now)
    assert programs_of(house) == []
    first = house.ask(prompt(("task", 400)))
    house.router.on_response_end(first, Usage(400, 0, 30), Outcome.OK, house.now + 1.0)
    house.now += 10.0
    house.ask(prompt(("task", 400), ("more", 200)))
    assert [program.calls for program in programs_of(house)] == [2]


def test_what_it_was_is_learned_though_it_is_no_step():
    house = House(2, programs=Programs())
    for number in range(4):
        ticket = house.ask(prompt((str(number), 400)), max_tokens=99)
        house.router.on_response_end(ticket, Usage(400, 0, 30), Outcome.OK, house.now)
    history = house.router.programs.table.history.of("", "")
    assert (round(history.lengths.observations(1)), round(history.calls("").output_tokens.mean())) == (4, 30)


def test_the_call_that_goes_on_from_it_finds_a_step_with_all_that_became_of_it():
    house = House(2, programs=Programs())
    first = house.ask(prompt(("task", 400)), id="first", max_tokens=99)
    house.router.on_response_start(first, 101.0)
    house.router.on_response_end(first, Usage(400, 0, 30), Outcome.OK, 103.0)
    house.now = 110.0
    house.ask(prompt(("task", 400), ("more", 200)))
    (program,) = programs_of(house)
    step, following = program.steps.values()
    assert (step.request_id, step.max_tokens, step.prompt_tokens, step.output_tokens) == ("first", 99, 400, 30)
    assert (step.came_s, step.dispatched_s, step.started_s, step.ended_s) == (100.0, 100.0, 101.0, 103.0)
    assert following.after == (step.name,)
    assert following.resent_tokens == 400
    assert (program.attained_s, program.first_seen_s, program.computed_tokens) == (3.0, 100.0, 400)


def test_one_that_runs_still_becomes_a_step_when_a_sibling_comes():
    house = House(2, programs=Programs())
    first = house.ask(prompt(("task", 400), ("a", 50)))
    house.ask(prompt(("task", 400), ("b", 50)))
    (program,) = programs_of(house)
    assert (program.calls, program.running) == (2, 2)
    house.router.on_response_end(first, Usage(450, 0, 30), Outcome.OK, house.now + 2.0)
    assert (program.running, program.attained_s) == (1, 2.0)


def test_an_explanation_names_its_step():
    house = House(2, programs=Programs())
    ticket = house.ask(prompt(("task", 400)), explain=True)
    assert ticket.decision.explanation.program["call"] == 1
    assert house.router.programs.table.get(ticket.request.program_key).running == 1


def test_a_second_try_is_the_same_step():
    house = House(2, programs=Programs())
    request = house.request(prompt(("task", 400)), id="once")
    for excluded, outcome in ((frozenset(), Outcome.FAILED), (frozenset({"r0"}), Outcome.OK)):
        request.excluded = excluded
        ticket = house.router.submit(request, house.now)
        assert house.router.poll(house.now) == [ticket]
        house.router.on_response_end(ticket, None, outcome, house.now)
    (program,) = programs_of(house)
    assert (program.calls, [step.tries for step in program.steps.values()]) == (1, [2])


def test_what_is_counted_against_a_budget_is_a_step_at_once():
    house = House(2, programs=Programs(budgets=Budgets(default=Budget(max_tokens=1000))))
    house.ask(prompt(("task", 400)))
    assert [program.calls for program in programs_of(house)] == [1]


def test_what_a_client_says_of_a_call_is_for_a_step():
    house = House(2, programs=Programs())
    ticket = house.ask(prompt(("task", 400)), program=ProgramHint("", output_tokens=7))
    (program,) = programs_of(house)
    assert program.key == ticket.request.program_key
    assert [step.hinted_tokens for step in program.steps.values()] == [7]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.booleans(),
        st.sampled_from([*Outcome, None]),
        st.booleans(),
        st.sampled_from([0.0, 0.2, 5.0]),
    ),
    max_size=25,
)
TOLD = ("calls", "running", "waiting", "attained_s", "waited_s", "age_s", "idle_s", "computed_tokens", "output_tokens")
TOLD_OF_STEPS = ("name", "state", "after", "tries", "came_s", "dispatched_s", "started_s", "ended_s", "prompt_tokens")


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_programs_of_several_calls_and_what_is_learned_are_the_same_whether_somebody_looked_at_once_or_not(events):
    """Three conversations that nobody names; a call goes on from the last one of its conversation or says the same
    again, is dispatched or withdrawn (None), and ends now or runs on."""

    def told(order):
        house = House(2, flow=Flow(order), programs=Programs())
        talks = dict.fromkeys("abc", 1)
        for number, (name, grows, outcome, streams, pause_s) in enumerate(events):
            talks[name] += grows
            content = prompt((name, 100), *((f"{name}{turn}", 60) for turn in range(talks[name])))
            ticket = house.router.submit(house.request(content, id=str(number), streams=streams), house.now)
            if outcome is None:
                house.router.withdraw(ticket, house.now + 0.1)
            else:
                house.router.poll(house.now)
                house.router.on_response_start(ticket, house.now + 0.5)
                if number % 3:
                    house.router.on_response_end(ticket, Usage(None, 16, 20), outcome, house.now + 1.0)
            house.now += pause_s
        house.now += 10.0
        shown = (describe(program, house.now) for program in programs_of(house) if program.calls > 1)
        table = house.router.programs.table
        history, rates = table.history.of("", ""), table.rates.decode
        learned = (
            history.lengths.observations(1),
            history.all.ended,
            history.all.output_tokens,
            history.all.wait_s.mean(),
        )
        return (*learned, rates.tokens, rates.seconds), {
            each["id"]: ([each[key] for key in TOLD], [[step[key] for key in TOLD_OF_STEPS] for step in each["steps"]])
            for each in shown
        }

    assert told(Fcfs()) == told(Curious())
