"""Requests that had a prefill leg, and whose decode replica does everything itself after all."""

import pytest
from house import House, prompt

from flow.disaggregation.always import Always
from router.core.disaggregation.stats import Fallback
from router.core.types import Outcome, Role


def pair():
    home = House(0, rule=Always())
    home.add("p", role=Role.PREFILL)
    home.add("d", role=Role.DECODE)
    return home, home.ask(prompt(("question", 320)))


def loads(home, name):
    """Requests waiting for prefill, prompt tokens to compute, tokens held."""
    slot, load = home.router.fleet.slot(name), home.router.load
    return [column[slot] for column in (load.queued, load.prefill_tokens, load.context_tokens)]


@pytest.mark.parametrize("outcome", [None, Outcome.OK, Outcome.REJECTED])
def test_the_prompt_weighs_on_the_decode_replica_whatever_became_of_the_leg(outcome):
    """None: the leg was never sent."""
    home, ticket = pair()
    if outcome is not None:
        home.router.on_response_end(ticket.prefill, None, outcome, home.now)
    home.router.serve_whole(ticket, home.now)
    assert ticket.prefill is None
    assert loads(home, "p") == [0, 0, 0]
    assert loads(home, "d") == [1, 320, 320]
    assert home.router.pairing.stats.fallbacks[Fallback.NOT_HANDED_OVER] == 1
    home.router.on_response_start(ticket, home.now)
    home.router.on_response_end(ticket, None, Outcome.OK, home.now)
    assert loads(home, "d") == [0, 0, 0]
    assert home.router.in_flight == 0


def test_a_leg_that_nobody_follows_any_more_is_nobody_s_any_more():
    home, ticket = pair()
    home.router.on_response_end(ticket, None, Outcome.TIMEOUT, home.now)
    assert not home.router.prefill_elsewhere(ticket, home.now)
    home.router.serve_whole(ticket, home.now)
    assert ticket.prefill is None
    assert home.router.in_flight == 0
