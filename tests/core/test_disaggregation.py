"""Requests with two legs: who computes the prompt, what each leg weighs, and what happens when one fails."""

import pytest
from house import House, prompt

from flow.disaggregation.always import Always
from flow.disaggregation.min_uncached import MinUncached
from flow.disaggregation.never import Never
from flow.disaggregation.predicted_cost import PredictedCost
from flow.gates.step_budget import StepBudget
from router.core.disaggregation.stats import Fallback
from router.core.fleet import ModelRef
from router.core.flow import Flow, Waiting
from router.core.types import Health, Outcome, RefusalReason, Role, Ticket, TicketKind, Usage

PREFILL, DECODE, BOTH = Role.PREFILL, Role.DECODE, Role.BOTH


def house(*roles, rule=None, flow=None, disaggregation=None, **spec):
    """Replicas p0, p1, ..., d0, ..., b0, ... with these roles."""
    made = House(0, rule=rule or Always(), flow=flow, disaggregation=disaggregation)
    counts = dict.fromkeys(Role, 0)
    for role in roles:
        made.add(f"{role[0]}{counts[role]}", role=role, **spec)
        counts[role] += 1
    return made


def names(ticket):
    """Of the prefill and the decode replica."""
    return ticket.prefill and ticket.prefill.decision.replica.name, ticket.decision.replica.name


def end_prefill(home, ticket, outcome=Outcome.OK):
    home.router.on_response_end(ticket.prefill, None, outcome, home.now)


def loads(home, name):
    """Requests waiting for prefill, answering, prompt tokens to compute, tokens held."""
    slot, load = home.router.fleet.slot(name), home.router.load
    return [column[slot] for column in (load.queued, load.started, load.prefill_tokens, load.context_tokens)]


def test_a_request_gets_a_replica_to_answer_it_and_one_to_compute_its_prompt():
    home = house(PREFILL, DECODE)
    ticket = home.ask(prompt(("question", 320)))
    assert names(ticket) == ("p0", "d0")
    assert ticket.prefill.kind is TicketKind.PREFILL
    assert loads(home, "p0") == [1, 0, 320, 320]
    assert loads(home, "d0") == [1, 0, 0, 320]


def test_the_prefill_leg_weighs_until_it_ends_and_the_answer_until_that_ends():
    home = house(PREFILL, DECODE)
    ticket = home.ask(prompt(("question", 320)))
    end_prefill(home, ticket)
    assert loads(home, "p0") == [0, 0, 0, 0]
    home.router.on_response_start(ticket, home.now)
    assert loads(home, "d0") == [0, 1, 0, 320]
    home.router.on_response_end(ticket, Usage(320, 0, 10), Outcome.OK, home.now)
    assert loads(home, "d0") == [0, 0, 0, 0]
    assert home.router.in_flight == 0


def test_both_replicas_hold_the_prompt_afterwards():
    home = house(PREFILL, DECODE)
    content = prompt(("system", 320))
    first = home.ask(content)
    sibling = home.ask(content)
    assert sibling.prefill.decision.cached_tokens == 304
    assert sibling.decision.cached_tokens == 0, "nothing has been transferred yet"
    end_prefill(home, first)
    assert home.ask(content).decision.cached_tokens == 304


def test_a_fan_out_is_prefilled_where_the_first_of_it_is():
    home = house(PREFILL, PREFILL, PREFILL, DECODE, DECODE)
    tickets = [home.ask(prompt(("system", 1600), (f"branch {number}", 32))) for number in range(6)]
    assert len({ticket.prefill.decision.replica.name for ticket in tickets}) == 1


def test_what_another_replica_computes_ties_nobody_to_a_busy_decode_replica():
    home = house(PREFILL, DECODE, DECODE)
    content = prompt(("system", 1600), ("document", 4800))
    home.stored("d0", prompt(("system", 1600)))
    for number in range(40):
        busy = prompt((str(number), 256))
        home.router.on_response_start(home.ask(busy, subset=frozenset({"d0", "p0"})), home.now)
    assert home.ask(content).decision.replica.name == "d1"


def test_a_conversation_goes_on_where_its_blocks_are():
    home = house(PREFILL, DECODE, DECODE, DECODE, rule=PredictedCost())
    home.stored("d1", prompt(("conversation", 6400)))
    ticket = home.ask(prompt(("conversation", 6400), ("turn", 32)))
    assert names(ticket) == (None, "d1")


def test_replicas_that_only_prefill_answer_nobody_while_another_can():
    home = house(PREFILL, DECODE, rule=Never())
    assert {home.route(prompt((str(number), 64))) for number in range(20)} == {"d0"}


def test_without_a_healthy_prefill_replica_requests_are_aggregated_and_counted():
    home = house(PREFILL, DECODE)
    home.router.on_health("p0", Health.UNHEALTHY, home.now)
    ticket = home.ask(prompt(("question", 320)))
    assert names(ticket) == (None, "d0")
    assert loads(home, "d0") == [1, 0, 320, 320]
    assert home.router.pairing.stats.fallbacks[Fallback.NO_PREFILL_REPLICA] == 1


def test_without_a_healthy_decode_replica_a_prefill_replica_serves_alone():
    home = house(PREFILL, PREFILL, DECODE)
    home.router.on_health("d0", Health.UNHEALTHY, home.now)
    ticket = home.ask(prompt(("question", 320)))
    assert ticket.prefill is None
    assert ticket.decision.replica.role is PREFILL
    assert home.router.pairing.stats.fallbacks[Fallback.NO_DECODE_REPLICA] == 1


def test_in_a_fleet_without_roles_nothing_is_disaggregated_unless_asked_for():
    assert house(BOTH, BOTH).ask(prompt(("question", 320))).prefill is None
    ticket = house(BOTH, BOTH, disaggregation={"among_equals": True}).ask(prompt(("question", 320)))
    assert set(names(ticket)) == {"b0", "b1"}


def test_replicas_of_both_roles_serve_either_leg():
    home = house(BOTH, DECODE)
    for number in range(20):
        prefill, decode = names(home.ask(prompt((str(number), 64))))
        assert (prefill, decode) == (None, "b0") or (prefill, decode) == ("b0", "d0")


def test_a_prompt_of_which_nothing_is_known_is_not_disaggregated():
    assert house(PREFILL, DECODE).ask(None).prefill is None


def test_replicas_that_cannot_answer_alone_get_two_legs_whatever_is_known_of_a_prompt():
    home = house(PREFILL, DECODE, disaggregation={"aggregates": False})
    ticket = home.ask(None)
    assert names(ticket) == ("p0", "d0")
    home.now += 3.0
    end_prefill(home, ticket)
    assert not home.router.load.rates[home.router.fleet.slot("p0")].line.weight, "it teaches no rate"


def test_no_warm_up_is_sent_to_replicas_that_cannot_answer_alone():
    content = prompt(("conversation", 320))
    for aggregates in (True, False):
        home = house(PREFILL, DECODE, disaggregation={"aggregates": aggregates})
        waiting = Waiting(Ticket(home.request(content), home.now), ModelRef("m"), None, 0, lambda _: 0)
        assert (home.router.warm_up(waiting, 0, home.now) is not None) == aggregates


def test_clients_may_not_say_where_blocks_are_to_be_fetched():
    """Incomplete parameters make a vLLM engine die."""
    home = house(PREFILL, DECODE)
    ticket = home.ask(prompt(("question", 320)), says_transfer=True)
    assert ticket.refusal.reason is RefusalReason.OWN_TRANSFER
    among_equals = house(BOTH, BOTH, disaggregation={"among_equals": True})
    assert among_equals.ask(prompt(("question", 320)), says_transfer=True).refusal is not None
    assert house(BOTH).ask(prompt(("question", 320)), says_transfer=True).refusal is None


def test_after_a_failed_prefill_another_replica_is_asked_and_then_the_decode_replica_does_it():
    home = house(PREFILL, PREFILL, PREFILL, DECODE)
    ticket = home.ask(prompt(("question", 320)))
    first = names(ticket)[0]
    end_prefill(home, ticket, Outcome.FAILED)
    assert home.router.prefill_elsewhere(ticket, home.now)
    second = names(ticket)[0]
    assert second not in (first, None)
    end_prefill(home, ticket, Outcome.FAILED)
    assert not home.router.prefill_elsewhere(ticket, home.now)
    assert names(ticket) == (None, "d0")
    assert loads(home, first) == loads(home, second) == [0, 0, 0, 0]
    assert loads(home, "d0") == [1, 0, 320, 320]
    assert home.router.pairing.stats.fallbacks[Fallback.PREFILL_FAILED] == 1
    assert home.router.pairing.stats.prefills_failed == 2


def test_the_end_of_a_request_ends_a_prefill_leg_of_which_nobody_told_the_end():
    home = house(PREFILL, DECODE)
    ticket = home.ask(prompt(("question", 320)))
    home.router.on_response_end(ticket, None, Outcome.OK, home.now)
    assert loads(home, "p0") == loads(home, "d0") == [0, 0, 0, 0]
    assert home.ask(prompt(("question", 320))).decision.cached_tokens == 304


def test_a_client_that_leaves_before_the_prefill_has_ended_leaves_no_blocks_behind():
    home = house(PREFILL, DECODE)
    ticket = home.ask(prompt(("question", 320)))
    home.router.on_response_end(ticket, None, Outcome.CLIENT_GONE, home.now)
    assert loads(home, "p0") == loads(home, "d0") == [0, 0, 0, 0]
    assert home.ask(prompt(("question", 320))).decision.cached_tokens == 0


def test_prefill_legs_teach_the_prefill_rate_and_answers_the_transfer():
    home = house(PREFILL, DECODE)
    for number in range(8):
        tokens = 1600 * (1 + number % 3)
        ticket = home.ask(prompt((str(number), tokens)))
        home.now += tokens / 4000
        end_prefill(home, ticket)
        home.now += 0.01 + tokens * 131_072 / 5e9
        home.router.on_response_start(ticket, home.now)
        home.router.on_response_end(ticket, None, Outcome.OK, home.now)
    load, fleet = home.router.load, home.router.fleet
    assert load.prefill_rate[fleet.slot("p0")] == pytest.approx(4000, rel=0.01)
    assert not load.rates[fleet.slot("d0")].known
    transfers = home.router.pairing.planner.transfers
    (line,) = [line for line in transfers.lines.values() if line.known]
    assert 1 / line.slope() == pytest.approx(5e9, rel=0.01)
    assert line.intercept() == pytest.approx(0.01, rel=0.05)


def test_the_explanation_tells_both_ways():
    home = house(PREFILL, DECODE, rule=PredictedCost())
    told = home.ask(prompt(("question", 3200)), explain=True).decision.explanation.disaggregation
    assert told["rule"] == "predicted-cost"
    assert told["prefill"]["replica"] == "p0"
    assert told["decode"]["compute_ms"] > 0
    assert told["transfer_ms"] > 0


def test_short_uncached_prompts_stay_where_they_are_answered():
    home = house(PREFILL, DECODE, rule=MinUncached(512))
    content = prompt(("conversation", 4096))
    home.stored("d0", content)
    assert home.ask(prompt(("conversation", 4096), ("turn", 64))).prefill is None
    assert home.ask(prompt(("other", 4096))).prefill is not None


def test_predicted_cost_computes_on_an_idle_replica_and_spares_one_that_answers_many():
    home = house(PREFILL, DECODE, rule=PredictedCost())
    assert home.ask(prompt(("first", 64))).prefill is None
    for number in range(8):
        ticket = home.ask(prompt((f"answered {number}", 16)))
        home.now += 0.005
        home.router.on_response_start(ticket, home.now)
    assert home.ask(prompt(("long", 4096))).prefill is not None


def test_a_request_waits_for_a_prefill_replica_with_room_and_lets_pass_who_needs_none():
    home = house(PREFILL, DECODE, rule=MinUncached(512), flow=Flow(gate=StepBudget(1.0, 1000)))
    router = home.router
    first = home.ask(prompt(("long", 1600)))
    long = router.submit(home.request(prompt(("other", 1600))), home.now)
    short = router.submit(home.request(prompt(("short", 64))), home.now)
    assert router.poll(home.now) == [short]
    end_prefill(home, first)
    assert router.poll(home.now) == [long]
    assert names(long) == ("p0", "d0")


def test_room_on_the_replica_that_answers_is_no_room_to_prefill_for_it():
    home = house(PREFILL, BOTH, flow=Flow(gate=StepBudget(1.0, 1000)))
    router, answering = home.router, frozenset({"b0", "p0"})
    first = home.ask(prompt(("long", 1600)), subset=answering)
    assert names(first) == ("p0", "b0")
    second = router.submit(home.request(prompt(("other", 1600)), subset=answering), home.now)
    assert router.poll(home.now) == []
    end_prefill(home, first)
    assert router.poll(home.now) == [second]


def test_nobody_waits_for_room_to_prefill_when_no_replica_is_left_that_could():
    home = house(PREFILL, DECODE, flow=Flow(gate=StepBudget(1.0, 1000)))
    router = home.router
    home.ask(prompt(("long", 1600)))
    waiting = router.submit(home.request(prompt(("other", 1600))), home.now)
    assert router.poll(home.now) == []
    router.on_replica_gone("p0", home.now)
    assert router.poll(home.now) == [waiting]
    assert names(waiting) == (None, "d0")


def test_a_replica_cannot_spare_itself_what_it_would_compute_for_others():
    home = house(BOTH, DECODE, rule=PredictedCost())
    for name, answers, tokens in (("b0", 6, 16), ("d0", 3, 64)):
        for number in range(answers):
            busy = home.ask(prompt((f"{name} {number}", tokens)), subset=frozenset({name}))
            home.now += 0.01
            home.router.on_response_start(busy, home.now)
    assert home.ask(prompt(("question", 3200))).decision.replica.name == "d0"


def test_the_demand_for_each_leg_counts_only_where_requests_have_legs():
    def demand(home):
        return [home.router.pairing.demand.replicas(role, home.now) for role in (PREFILL, DECODE)]

    def answered(home):
        ticket = home.ask(prompt(("question", 3200)))
        home.now += 1.0
        home.router.on_response_end(ticket, Usage(3200, 0, 100), Outcome.OK, home.now)
        return demand(home)

    assert answered(house(BOTH, BOTH)) == [0.0, 0.0]
    prefill, decode = answered(house(PREFILL, DECODE))
    assert prefill > 0 < decode
    home = house(PREFILL, DECODE)
    home.router.on_health("p0", Health.UNHEALTHY, home.now)
    assert answered(home) == [pytest.approx(prefill), pytest.approx(decode)], "what cannot be had is wanted, too"


def test_programs_contexts_are_let_into_replicas_that_decode_alone():
    home = house(PREFILL, DECODE, BOTH)
    assert [memory.name for memory in home.router._memories()] == ["d0", "b0"]
