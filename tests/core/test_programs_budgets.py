"""Budgets: past one, a program's calls are refused with the figures; other programs, tenants and retries are not."""

import pytest
from house import House, prompt

from router.core.programs.budgets import Budget, Budgets
from router.core.programs.tracker import Programs
from router.core.types import Outcome, ProgramHint, RefusalReason, Usage

EXCEEDED = RefusalReason.PROGRAM_BUDGET_EXCEEDED
LOOP = RefusalReason.PROGRAM_LOOP


class Agent:
    """Calls of programs at a router that bounds them."""

    def __init__(self, **budgets):
        self.house = House(2, programs=Programs(budgets=Budgets(**budgets)))
        self.numbers = 0

    def call(self, program="p", tokens=100, name=None, **request):
        """The ticket of a call whose prompt nobody sent before, unless it is named."""
        self.numbers += 1
        content = prompt((name or f"prompt {self.numbers}", tokens))
        hint = ProgramHint(program, kind=request.pop("kind", "")) if program else None
        return self.house.ask(content, program=hint, id=f"{self.numbers}", **request)

    def end(self, ticket, usage=None, outcome=Outcome.OK):
        self.house.router.on_response_end(ticket, usage, outcome, self.house.now)

    def done(self, *arguments, usage=None, outcome=Outcome.OK, **named):
        """The refusal of a call that ends at once if it may go on."""
        ticket = self.call(*arguments, **named)
        if ticket.refusal is None:
            self.end(ticket, usage, outcome)
        return ticket.refusal and ticket.refusal.reason


def test_without_budgets_nothing_is_refused():
    agent = Agent()
    assert {agent.done() for _ in range(50)} == {None}


def test_a_program_has_so_many_calls():
    agent = Agent(default=Budget(max_calls=2))
    assert [agent.done() for _ in range(3)] == [None, None, EXCEEDED]
    assert agent.done("another") is None
    assert agent.done(tenant="another") is None
    assert agent.house.router.stats.refused[EXCEEDED] == 1


def test_tokens_count_as_replicas_report_them_and_the_coming_prompt_counts_too():
    agent = Agent(default=Budget(max_tokens=1000))
    assert agent.done(tokens=100, usage=Usage(500, 400, 300)) is None
    assert agent.done(tokens=201) is EXCEEDED
    assert agent.done(tokens=200) is None


def test_a_first_prompt_can_be_too_long():
    agent = Agent(default=Budget(max_tokens=99))
    assert agent.done(tokens=100) is EXCEEDED
    assert len(agent.house.router.programs.table) == 0


def test_a_program_has_so_much_time():
    agent = Agent(default=Budget(max_wall_s=60.0))
    assert agent.done() is None
    agent.house.now += 60
    assert agent.done() is None
    agent.house.now += 1
    assert agent.done() is EXCEEDED


def test_calls_at_once_may_come_back_when_one_has_ended():
    agent = Agent(default=Budget(max_open_calls=2))
    first, _ = agent.call(), agent.call()
    refused = agent.call().refusal
    assert (refused.reason, refused.retry_after_s) == (EXCEEDED, 1.0)
    agent.end(first)
    assert agent.call().refusal is None


@pytest.mark.parametrize(
    ("budget", "figures"),
    [
        (Budget(max_calls=1), ["`p`", "may have 1 calls", "has 1 and asks for 1 more"]),
        (Budget(max_tokens=1500), ["may have 1,500 tokens", "has 1,400 and asks for 101 more"]),
        (Budget(max_wall_s=10.0), ["may have 10.0 s", "it has 20.0."]),
    ],
)
def test_a_refusal_gives_the_figures(budget, figures):
    agent = Agent(default=budget)
    agent.done(usage=Usage(1000, 0, 400))
    agent.house.now += 20
    message = agent.call(tokens=101).refusal.message
    assert all(figure in message for figure in figures), message


def test_the_routers_own_next_try_is_not_refused():
    agent = Agent(default=Budget(max_calls=1), repeat_limit=1)
    agent.done(outcome=Outcome.REJECTED)
    assert agent.call(excluded=frozenset({"r0"})).refusal is None


def test_what_a_tenant_is_given_goes_before_the_default_and_a_class_can_only_lower_it():
    budgets = Budgets(
        default=Budget(max_calls=10, max_tokens=100),
        of_tenant={"gold": Budget(max_calls=50)},
        of_class={"crawler": Budget(max_calls=20, max_wall_s=5.0)},
    )
    assert budgets.budget("tin", "") == Budget(max_calls=10, max_tokens=100)
    assert budgets.budget("gold", "") == Budget(max_calls=50, max_tokens=100)
    assert budgets.budget("gold", "crawler") == Budget(max_calls=20, max_tokens=100, max_wall_s=5.0)
    assert budgets.budget("tin", "crawler") == Budget(max_calls=10, max_tokens=100, max_wall_s=5.0)


def test_a_program_stays_in_the_class_that_it_named_once():
    agent = Agent(of_class={"small": Budget(max_calls=1)})
    assert agent.done(kind="small") is None
    assert agent.done() is EXCEEDED


def test_the_same_prompt_again_and_again_is_a_loop():
    agent = Agent(repeat_limit=2)
    assert [agent.done(name="same") for _ in range(4)] == [None, None, None, LOOP]
    assert agent.done(name="same") is LOOP
    assert agent.done(name="different") is None
    assert agent.done(name="same") is None


def test_prompts_that_differ_in_their_last_tokens_are_no_loop():
    agent = Agent(repeat_limit=1)
    for length in range(33, 48):
        assert agent.done(name="same", tokens=length) is None


def test_samples_that_are_asked_for_at_once_are_no_loop():
    agent = Agent(repeat_limit=1)
    assert {agent.call(name="same").refusal for _ in range(10)} == {None}


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REJECTED, Outcome.CLIENT_GONE])
def test_asking_again_what_was_not_answered_is_no_loop(outcome):
    agent = Agent(repeat_limit=1)
    assert {agent.done(name="same", outcome=outcome) for _ in range(10)} == {None}


def test_a_loop_is_found_where_nothing_names_the_program():
    agent = Agent(repeat_limit=2)

    def turn(*contents):
        ticket = agent.house.ask(prompt(*contents))
        agent.house.now += 5
        if ticket.refusal is None:
            agent.end(ticket)
        return ticket.refusal and ticket.refusal.reason

    opening = ("question", 400)
    assert turn(opening) is None
    assert [turn(opening, ("and", 100)) for _ in range(4)] == [None, None, None, LOOP]


def test_many_programs_may_open_word_by_word():
    agent = Agent(repeat_limit=1)
    for _ in range(10):
        assert agent.done(None, name="the same opening", tokens=400) is None
        agent.house.now += 5
