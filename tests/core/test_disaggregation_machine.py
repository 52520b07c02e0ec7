"""Whatever happens to requests with two legs and to their replicas, no load is left when all is over."""

import numpy as np
from house import House, prompt
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from flow.disaggregation.always import Always
from flow.disaggregation.min_uncached import MinUncached
from flow.disaggregation.predicted_cost import PredictedCost
from flow.gates.step_budget import StepBudget
from router.core.flow import Flow
from router.core.types import Health, LoadReport, Outcome, Role

NAMES = ["r0", "r1", "r2", "r3"]
names = st.sampled_from(NAMES)
roles = st.sampled_from(list(Role))
picks = st.integers(0, 1000)


class Legs(RuleBasedStateMachine):
    @initialize(
        rule=st.sampled_from([Always(), MinUncached(100), PredictedCost()]),
        gate=st.sampled_from([None, StepBudget(1.0, 500)]),
        among_equals=st.booleans(),
    )
    def build(self, rule, gate, among_equals):
        self.home = House(0, rule=rule, flow=Flow(gate=gate), disaggregation={"among_equals": among_equals})
        self.router = self.home.router
        self.tickets, self.under_way, self.legs = [], [], []
        for name, role in zip(NAMES, (Role.PREFILL, Role.PREFILL, Role.BOTH, Role.DECODE), strict=True):
            self.home.add(name, role=role)

    def poll(self):
        for ticket in self.router.poll(self.home.now):
            self.tickets.remove(ticket)
            if ticket.decision is not None:
                self.under_way.append(ticket)
                self.follow_leg(ticket)

    def follow_leg(self, ticket):
        if ticket.prefill is not None:
            self.legs.append((ticket, ticket.prefill))

    def ticket(self, pick):
        return self.under_way[pick % len(self.under_way)]

    @rule(
        size=st.integers(0, 40), number=st.integers(0, 3), subset=st.none() | st.frozensets(names), exact=st.booleans()
    )
    def ask(self, size, number, subset, exact):
        content = None if size == 0 else prompt((str(number), 40 * size), exact=exact)
        self.tickets.append(self.router.submit(self.home.request(content, subset=subset), self.home.now))
        self.poll()

    @precondition(lambda self: self.legs)
    @rule(pick=picks, outcome=st.sampled_from(Outcome), goes_on=st.booleans())
    def prefill_ends(self, pick, outcome, goes_on):
        ticket, leg = self.legs.pop(pick % len(self.legs))
        self.router.on_response_end(leg, None, outcome, self.home.now)
        if outcome is not Outcome.OK and goes_on and ticket.prefill is leg:
            found = self.router.prefill_elsewhere(ticket, self.home.now)
            assert found == (ticket.prefill is not None)
            self.follow_leg(ticket)
        self.poll()

    @precondition(lambda self: self.under_way)
    @rule(pick=picks)
    def is_served_whole(self, pick):
        ticket = self.ticket(pick)
        self.router.serve_whole(ticket, self.home.now)
        assert ticket.prefill is None

    @precondition(lambda self: self.under_way)
    @rule(pick=picks)
    def answer_begins(self, pick):
        self.router.on_response_start(self.ticket(pick), self.home.now)

    @precondition(lambda self: self.under_way)
    @rule(pick=picks, outcome=st.sampled_from(Outcome))
    def answer_ends(self, pick, outcome):
        ticket = self.ticket(pick)
        self.under_way.remove(ticket)
        self.router.on_response_end(ticket, None, outcome, self.home.now)
        self.poll()

    @rule(name=names, role=roles, block_size=st.sampled_from([16, 32]))
    def replica_changes(self, name, role, block_size):
        self.home.add(name, role=role, block_size_tokens=block_size)
        self.poll()

    @rule(name=names)
    def replica_goes(self, name):
        self.router.on_replica_gone(name, self.home.now)
        self.poll()

    @rule(name=names, health=st.sampled_from(Health))
    def health_changes(self, name, health):
        self.router.on_health(name, health, self.home.now)
        self.poll()

    @rule(name=names, waiting=st.integers(0, 2), usage=st.sampled_from([0.0, 0.5, 1.0]))
    def load_is_reported(self, name, waiting, usage):
        self.router.on_load(name, LoadReport(0, waiting, usage), self.home.now)
        self.poll()

    @rule(seconds=st.sampled_from([0.5, 10.0, 1000.0]))
    def time_passes(self, seconds):
        self.home.now += seconds
        self.poll()

    def teardown(self):
        """Everything ends, and every replica is there and idle: nobody waits any more, and nothing weighs."""
        if not hasattr(self, "home"):
            return
        home, router = self.home, self.router
        for name, role in zip(NAMES, (Role.PREFILL, Role.PREFILL, Role.BOTH, Role.DECODE), strict=True):
            home.add(name, role=role)
            router.on_load(name, LoadReport(0, 0, 0.0), home.now)
        self.poll()
        while self.under_way:
            for ticket in self.under_way[:]:
                self.under_way.remove(ticket)
                router.on_response_end(ticket, None, Outcome.OK, home.now)
            self.poll()
        assert self.tickets == []
        assert router.in_flight == 0
        assert (router.pairing._pairs, router.pairing._by_leg) == ({}, {})
        load = router.load
        for column in (load.queued, load.started, load.prefill_tokens, load.context_tokens):
            assert not np.any(column)


TestLegs = Legs.TestCase
