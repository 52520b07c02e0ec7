"""Chooses prefill replicas for requests whose decode replica is known, and follows both legs to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import numpy as np

from router.core.disaggregation.demand import Demand
from router.core.disaggregation.pair import Pair
from router.core.disaggregation.plan import Choice, Plan, Prospect
from router.core.disaggregation.rule import Way, Ways
from router.core.disaggregation.settings import Disaggregation
from router.core.disaggregation.stats import DisaggregationStats, Fallback
from router.core.disaggregation.topology import Distance, Topology
from router.core.disaggregation.transfers import Transfers
from router.core.fleet import Fleet, Slots
from router.core.flow import Gate, Waiting
from router.core.in_flight import InFlight
from router.core.load import Column, Load
from router.core.prefix import Chain
from router.core.types import Decision, Outcome, ReplicaSpec, Role, Ticket, TicketKind, Usage
from router.core.view import Candidates, Leg, View

LookUp = Callable[[Chain | None, Slots], Candidates]
Expect = Callable[[Chain | None, int, float], None]
"""The replica in that slot will hold the prompt in a moment."""

_COPY_WEIGHT = 3.0
"""What is computed once more also takes the time and memory of those to come, as the scorer `added-cost` has it."""

_FETCH_WEIGHT = 1.0
"""What is fetched takes memory from other prefixes, too."""

_REPLICA_FAULTS = frozenset((Outcome.FAILED, Outcome.REJECTED, Outcome.TIMEOUT))


class Pairing:
    """One per router, which lends its parts."""

    def __init__(
        self,
        settings: Disaggregation,
        fleet: Fleet,
        load: Load,
        in_flight: InFlight,
        gate: Gate | None,
        random: Random,
        look_up: LookUp,
        expect: Expect,
    ) -> None:
        self.stats = DisaggregationStats()
        self.transfers = Transfers(settings.bytes_per_token)
        self.demand = Demand()
        self._topology = Topology(fleet, settings.labels)
        self.settings = settings
        self._fleet = fleet
        self._load = load
        self._in_flight = in_flight
        self._gate = gate
        self._random = random
        self._look_up = look_up
        self._expect = expect
        self._pairs: dict[Ticket, Pair] = {}
        """By the request's ticket."""
        self._by_leg: dict[Ticket, Pair] = {}
        """By the ticket of its prefill leg, while that is under way."""

    def prospect(self, waiting: Waiting, now: float) -> Prospect | None:
        """Who could compute the prompt for another replica. None: nobody may, or nobody is there."""
        if not self._divides(waiting) or not self.settings.rule.splits:
            return None
        return self._prospect(waiting, (), now)

    def elsewhere_tokens(self, waiting: Waiting, prospect: Prospect, decoding: Candidates) -> Column:
        """For each of ``decoding`` what it costs to have the prompt computed for it, in tokens to compute."""
        request, view = waiting.request, prospect.view
        uncached_tokens = request.prompt_tokens - prospect.candidates.cached_tokens
        cost_tokens = view.queued_prefill_tokens + _COPY_WEIGHT * uncached_tokens
        position = int(cost_tokens.argmin())
        slot = int(prospect.candidates.slots[position])
        fetched_tokens = request.prompt_tokens - decoding.cached_tokens
        distances = self._topology.distances(slot)[decoding.slots]
        transfer_s = self.transfers.seconds(fetched_tokens, waiting.model.base, distances)
        transfer_tokens = transfer_s * self._load.compute_rate(slot) + _FETCH_WEIGHT * fetched_tokens
        elsewhere_tokens: Column = cost_tokens[position] + transfer_tokens
        return elsewhere_tokens

    def plan(
        self, waiting: Waiting, prospect: Prospect | None, decode_slot: int, cached_tokens: int, now: float
    ) -> Plan | None:
        """What is best for a request that ``decode_slot`` will answer and of whose prompt it holds ``cached_tokens``.
        None: nothing is disaggregated here."""
        if not self._divides(waiting):
            return None
        rule = self.settings.rule
        if not self._fleet.decoding[decode_slot]:
            return Plan(False, rule.name, fallback=Fallback.NO_DECODE_REPLICA)
        if not rule.splits:
            return Plan(False, rule.name)
        choice = None if prospect is None else self._choose(waiting, prospect, decode_slot, cached_tokens, now)
        if choice is None:
            return Plan(False, rule.name, fallback=Fallback.NO_PREFILL_REPLICA)
        return Plan(rule.disaggregates(choice.ways), rule.name, choice)

    def carry_out(self, plan: Plan, waiting: Waiting, decode_slot: int, now: float) -> None:
        """The request leaves by ``plan``."""
        if plan.fallback is not None:
            self.stats.fallbacks[plan.fallback] += 1
        if plan.choice is not None:
            ways = plan.choice.ways
            way = ways.elsewhere if plan.disaggregates else ways.here
            self.demand.add(Role.PREFILL, way.compute_s, now)
        if not plan.disaggregates or plan.choice is None:
            self.stats.aggregated += 1
            return
        self.stats.disaggregated += 1
        choice = plan.choice
        fetched_tokens = waiting.request.prompt_tokens - choice.ways.here.cached_tokens
        pair = Pair(waiting, decode_slot, choice.distance, fetched_tokens, ())
        self.stats.fetched_tokens += fetched_tokens
        self._pairs[waiting.ticket] = pair
        self._send_prefill(pair, choice, now)

    def prefill_ended(self, leg: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """A prefill leg is over, however it ended."""
        pair = self._by_leg.pop(leg, None)
        if outcome is Outcome.OK:
            self._in_flight.start(leg, now)
        self._in_flight.end(leg)
        self.settings.profile.ended(leg, usage, now)
        self.stats.prefills_failed += outcome in _REPLICA_FAULTS
        if pair is not None and outcome is Outcome.OK:
            self._prefilled(pair, now)

    def prefill_elsewhere(self, ticket: Ticket, now: float) -> bool:
        """After a prefill leg that failed: another one, on a replica that has not failed this request. False: there is
        none, or enough have failed; the decode replica computes the prompt itself."""
        pair = self._pairs.get(ticket)
        if pair is None:
            ticket.prefill = None
            return False
        choice = None
        if len(pair.tried) < self.settings.max_prefills and ticket.decision is not None:
            prospect = self._prospect(pair.waiting, pair.tried, now)
            if prospect is not None:
                cached_tokens = ticket.decision.cached_tokens
                choice = self._choose(pair.waiting, prospect, pair.decode_slot, cached_tokens, now)
        if choice is not None:
            pair.distance = choice.distance
            self._send_prefill(pair, choice, now)
            return True
        self._aggregate(pair, Fallback.PREFILL_FAILED, now)
        return False

    def serve_whole(self, ticket: Ticket, now: float) -> None:
        """The decode replica computes the prompt itself after all, whatever became of the prefill leg."""
        pair = self._pairs.get(ticket)
        if pair is None:
            ticket.prefill = None
            return
        self._end_leg(pair, now)
        self._aggregate(pair, Fallback.NOT_HANDED_OVER, now)

    def started(self, ticket: Ticket, now: float) -> None:
        """The decode replica begins to answer: it has the prompt's blocks."""
        pair = self._pairs.get(ticket)
        if pair is None:
            return
        if pair.prefilled_s is None:
            self._end_leg(pair, now)
            self._prefilled(pair, now)
        elif ticket.request.streams and pair.fetched_tokens > 0:
            seconds = now - pair.prefilled_s
            self.transfers.observe(pair.fetched_tokens, pair.waiting.model.base, pair.distance, seconds)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """The request is over, and with it what is left of its prefill leg."""
        self._count_decoding(ticket, usage, now)
        pair = self._pairs.pop(ticket, None)
        if pair is not None and pair.prefilled_s is None:
            self._end_leg(pair, now)
            if outcome is Outcome.OK:
                self._prefilled(pair, now)

    def _count_decoding(self, ticket: Ticket, usage: Usage | None, now: float) -> None:
        slot = None if ticket.decision is None else self._fleet.slot(ticket.decision.replica.name)
        if slot is not None and ticket.dispatched_s is not None:
            output_tokens = 0 if usage is None else usage.completion_tokens or 0
            held_tokens = ticket.request.prompt_tokens + output_tokens / 2
            held_s = now - ticket.dispatched_s
            self.demand.add(Role.DECODE, held_tokens / float(self._load.capacity_tokens[slot]) * held_s, now)

    def _divides(self, waiting: Waiting) -> bool:
        """Whether requests like this one can have two legs at all."""
        known = waiting.request.prompt is not None
        return known and (self.settings.among_equals or self._fleet.has_roles(waiting.model.base))

    def _prospect(self, waiting: Waiting, tried: Iterable[str], now: float) -> Prospect | None:
        slots = self.settings.profile.eligible(waiting.request, waiting.model, self._fleet)
        others = [slot for name in tried if (slot := self._fleet.slot(name)) is not None]
        if others:
            slots = slots[~np.isin(slots, others)]
        if len(slots) == 0:
            return None
        candidates, view = self._look_up(waiting.chain, slots), View(self._load, slots, now, Leg.PREFILL)
        has_room = self._gate is None or bool(self._gate.room(waiting, candidates, view).any())
        return Prospect(candidates, view, has_room)

    def _choose(
        self, waiting: Waiting, prospect: Prospect, decode_slot: int, cached_tokens: int, now: float
    ) -> Choice | None:
        candidates, view = prospect.candidates, prospect.view
        others = candidates.slots != decode_slot
        if not others.all():
            candidates = candidates.among(others)
            view = View(self._load, candidates.slots, now, Leg.PREFILL)
        if len(candidates) == 0:
            return None
        request, slots = waiting.request, candidates.slots
        distances = self._topology.distances(decode_slot)[slots]
        fetched_tokens = np.full(len(slots), request.prompt_tokens - cached_tokens, np.float64)
        view.transfer_s = self.transfers.seconds(fetched_tokens, waiting.model.base, distances)
        position = self.settings.profile.choose(request, candidates, view, self._random).position
        ways = Ways(
            self._way(request.prompt_tokens, cached_tokens, decode_slot),
            self._way(request.prompt_tokens, int(candidates.cached_tokens[position]), int(slots[position])),
            float(view.transfer_s[position]),
        )
        return Choice(candidates, view, position, Distance(int(distances[position])), ways, prospect.has_room)

    def _way(self, prompt_tokens: int, cached_tokens: int, slot: int) -> Way:
        load = self._load
        return Way(
            replica=self._spec(slot).name,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            queued_tokens=float(load.prefill_tokens[slot] + load.foreign_prefill_tokens[slot]),
            queued_requests=float(load.queued[slot] + load.foreign_queued[slot]),
            running_requests=float(load.started[slot] + load.foreign_running[slot]),
            tokens_per_s=load.compute_rate(slot),
        )

    def _send_prefill(self, pair: Pair, choice: Choice, now: float) -> None:
        request, decision = pair.waiting.request, pair.ticket.decision
        spec = self._spec(choice.slot)
        priority = None if decision is None else decision.priority
        leg_decision = Decision(spec, choice.cached_tokens, priority=priority)
        leg = Ticket(request, now, leg_decision, dispatched_s=now, kind=TicketKind.PREFILL)
        uncached_tokens = choice.ways.elsewhere.uncached_tokens
        self.settings.profile.dispatched(request, choice.candidates, choice.position, now)
        self._in_flight.dispatch(leg, choice.slot, uncached_tokens, now, learns=True, prefill_only=True)
        self._expect(pair.waiting.chain, choice.slot, now)
        self.stats.prefill_tokens += uncached_tokens
        pair.tried = (*pair.tried, spec.name)
        pair.prefilled_s = None
        pair.ticket.prefill = leg
        self._by_leg[leg] = pair

    def _prefilled(self, pair: Pair, now: float) -> None:
        pair.prefilled_s = now
        self._expect(pair.waiting.chain, pair.decode_slot, now)

    def _end_leg(self, pair: Pair, now: float) -> None:
        """Of which nobody told the end: some data planes see only the whole request's."""
        leg = pair.ticket.prefill
        if leg is not None and self._by_leg.pop(leg, None) is not None:
            self._in_flight.end(leg)
            self.settings.profile.ended(leg, None, now)

    def _aggregate(self, pair: Pair, fallback: Fallback, now: float) -> None:
        ticket = pair.ticket
        del self._pairs[ticket]
        ticket.prefill = None
        self.stats.fallbacks[fallback] += 1
        cached_tokens = 0 if ticket.decision is None else ticket.decision.cached_tokens
        if self._in_flight.end(ticket):
            uncached_tokens = max(ticket.request.prompt_tokens - cached_tokens, 0)
            self._in_flight.dispatch(ticket, pair.decode_slot, uncached_tokens, now, learns=ticket.request.streams)
            self._expect(pair.waiting.chain, pair.decode_slot, now)

    def _spec(self, slot: int) -> ReplicaSpec:
        spec = self._fleet.specs[slot]
        if spec is None:
            raise LookupError(f"slot {slot} has no replica")
        return spec
