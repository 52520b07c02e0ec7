"""Requests with two legs while the fleet changes under them."""

import pytest
from house import House, prompt

from flow.disaggregation.always import Always
from router.core.types import Health, Outcome, Role

CONTENT = prompt(("question", 320))
NOTHING = [0, 0, 0, 0]


def pair():
    home = House(0, rule=Always())
    home.add("p", role=Role.PREFILL)
    home.add("d", role=Role.DECODE)
    return home, home.ask(CONTENT)


def loads(home, name):
    """Requests waiting for prefill, answering, prompt tokens to compute, tokens held."""
    slot, load = home.router.fleet.slot(name), home.router.load
    return [column[slot] for column in (load.queued, load.started, load.prefill_tokens, load.context_tokens)]


def decode_replica_goes(home, ticket):
    home.router.on_replica_gone("d", home.now)


def another_takes_its_slot(home, ticket):
    slot = home.router.fleet.slot("d")
    home.router.on_replica_gone("d", home.now)
    home.add("other", role=Role.DECODE)
    assert home.router.fleet.slot("other") == slot


def prefill_ends(home, ticket):
    home.router.on_response_end(ticket.prefill, None, Outcome.OK, home.now)
    assert ticket.prefill is not None


def prefill_fails(home, ticket):
    home.router.on_response_end(ticket.prefill, None, Outcome.FAILED, home.now)
    assert not home.router.prefill_elsewhere(ticket, home.now)
    assert ticket.prefill is None


def cannot_be_split(home, ticket):
    home.router.serve_whole(ticket, home.now)
    assert ticket.prefill is None


def answer_begins(home, ticket):
    home.router.on_response_start(ticket, home.now)


def answer_ends(home, ticket):
    home.router.on_response_end(ticket, None, Outcome.OK, home.now)


@pytest.mark.parametrize("change", [decode_replica_goes, another_takes_its_slot])
@pytest.mark.parametrize("event", [prefill_ends, prefill_fails, cannot_be_split, answer_begins, answer_ends])
def test_a_decode_replica_that_is_gone_weighs_on_nobody(change, event):
    home, ticket = pair()
    change(home, ticket)
    event(home, ticket)
    if home.router.fleet.slot("other") is not None:
        assert loads(home, "other") == NOTHING
        assert home.ask(CONTENT, subset=frozenset({"other", "p"})).decision.cached_tokens == 0
    home.router.on_response_end(ticket, None, Outcome.FAILED, home.now)
    assert home.router.withdraw(ticket, home.now) is False


def test_a_decode_replica_that_comes_back_under_its_name_computes_the_prompt():
    home, ticket = pair()
    home.router.on_replica_gone("d", home.now)
    home.add("first to come", role=Role.DECODE)
    home.add("d", role=Role.DECODE)
    home.router.serve_whole(ticket, home.now)
    assert loads(home, "first to come") == NOTHING
    assert loads(home, "d") == [1, 0, 320, 320]
    home.router.on_response_end(ticket, None, Outcome.OK, home.now)
    assert loads(home, "d") == NOTHING


def test_a_prefill_replica_that_is_gone_leaves_the_request_to_its_decode_replica():
    home, ticket = pair()
    home.router.on_replica_gone("p", home.now)
    prefill_fails(home, ticket)
    assert loads(home, "d") == [1, 0, 320, 320]


def test_replicas_may_change_their_roles_while_they_work():
    home, ticket = pair()
    home.add("p", role=Role.DECODE)
    home.add("d", role=Role.PREFILL)
    prefill_ends(home, ticket)
    answer_ends(home, ticket)
    assert loads(home, "p") == loads(home, "d") == NOTHING
    turned = home.ask(CONTENT)
    assert (turned.prefill.decision.replica.name, turned.decision.replica.name) == ("d", "p")


def test_a_leg_ends_once_whoever_tells_it():
    """Its answer may begin before anybody has seen the end of the leg."""
    home, ticket = pair()
    leg = ticket.prefill
    answer_begins(home, ticket)
    home.router.on_response_end(leg, None, Outcome.FAILED, home.now)
    assert home.router.pairing.stats.prefills_failed == 0


def test_a_leg_that_takes_too_long_is_given_up_once():
    home, ticket = pair()
    leg = ticket.prefill
    home.now += home.router.settings.in_flight_timeout_s + 1.0
    home.router.poll(home.now)
    home.router.on_response_end(leg, None, Outcome.TIMEOUT, home.now)
    assert home.router.pairing.stats.prefills_failed == 1
    assert home.router.in_flight == 0


def test_a_prompt_goes_to_the_replica_that_its_program_is_pinned_to_as_long_as_that_one_answers():
    home = House(0, rule=Always())
    for name, role in (("p", Role.PREFILL), ("a", Role.DECODE), ("b", Role.DECODE)):
        home.add(name, role=role)
    router = home.router
    for role, expected in ((Role.DECODE, "a"), (Role.PREFILL, "b")):
        home.add("a", role=role)
        ticket = router.submit(home.request(CONTENT), home.now)
        (waiting,) = router.room._come.values()
        waiting.pinned = "a"
        assert router.poll(home.now) == [ticket]
        assert ticket.decision.replica.name == expected


def test_health_that_changes_between_the_legs_changes_nothing_for_who_is_under_way():
    home, ticket = pair()
    home.router.on_health("d", Health.DRAINING, home.now)
    prefill_ends(home, ticket)
    answer_ends(home, ticket)
    assert loads(home, "p") == loads(home, "d") == NOTHING
