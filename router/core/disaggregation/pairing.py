"""Follows both legs of each request that has two, to their end."""

from __future__ import annotations

from collections.abc import Callable

from router.core.disaggregation.demand import Demand
from router.core.disaggregation.pair import Pair
from router.core.disaggregation.plan import Choice, Plan
from router.core.disaggregation.planner import Planner
from router.core.disaggregation.settings import Disaggregation
from router.core.disaggregation.stats import DisaggregationStats, Fallback
from router.core.fleet import Fleet
from router.core.flow import Waiting
from router.core.in_flight import InFlight
from router.core.load import Load
from router.core.prefix import Chain
from router.core.types import Decision, Outcome, Role, Ticket, TicketKind, Usage

Expect = Callable[[Chain | None, int, float], None]
"""The replica in that slot will hold the prompt in a moment."""

_REPLICA_FAULTS = frozenset((Outcome.FAILED, Outcome.REJECTED, Outcome.TIMEOUT))


class Pairing:
    """One per router, which lends its parts. Replicas may leave and others take their slots while a leg is under way,
    so between two calls the decode replica is known by its name."""

    def __init__(
        self,
        settings: Disaggregation,
        planner: Planner,
        fleet: Fleet,
        load: Load,
        in_flight: InFlight,
        expect: Expect,
    ) -> None:
        self.stats = DisaggregationStats()
        self.demand = Demand()
        self.planner = planner
        self._settings = settings
        self._fleet = fleet
        self._load = load
        self._in_flight = in_flight
        self._expect = expect
        self._pairs: dict[Ticket, Pair] = {}
        """By the request's ticket."""
        self._by_leg: dict[Ticket, Pair] = {}
        """By the ticket of its prefill leg, while that is under way."""

    def carry_out(self, plan: Plan, waiting: Waiting, now: float) -> None:
        """The request leaves by ``plan``."""
        if plan.fallback is not None:
            self.stats.fallbacks[plan.fallback] += 1
        choice = plan.choice
        if not plan.disaggregates or choice is None:
            self.stats.aggregated += 1
            self.demand.add(Role.PREFILL, plan.here.compute_s, now)
            return
        self.stats.disaggregated += 1
        self.demand.add(Role.PREFILL, choice.way.compute_s, now)
        self.stats.fetched_tokens += plan.here.uncached_tokens
        pair = self._pairs[waiting.ticket] = Pair(waiting, choice.distance, plan.here.uncached_tokens)
        self._send_prefill(pair, choice, now)

    def prefill_ended(self, leg: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """A prefill leg is over, however it ended. What was taken to be over is heard of no more."""
        pair = self._by_leg.pop(leg, None)
        if pair is None:
            return
        if outcome is Outcome.OK:
            self._in_flight.start(leg, now)
            self._prefilled(pair, now)
        self._in_flight.end(leg)
        self._settings.profile.ended(leg, usage, now)
        self.stats.prefills_failed += outcome in _REPLICA_FAULTS

    def prefill_elsewhere(self, ticket: Ticket, now: float) -> bool:
        """After a prefill leg that failed: another one, on a replica that has not failed this request. False: there is
        none, or enough have failed; the decode replica computes the prompt itself."""
        pair = self._pairs.get(ticket)
        if pair is None:
            ticket.prefill = None
            return False
        choice = self._choose_again(pair, now)
        if choice is None:
            self._aggregate(pair, Fallback.PREFILL_FAILED, now)
            return False
        pair.distance = choice.distance
        self._send_prefill(pair, choice, now)
        return True

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
            self.planner.transfers.observe(pair.fetched_tokens, pair.waiting.model.base, pair.distance, seconds)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """The request is over, and with it what is left of its prefill leg."""
        self._count_decoding(ticket, usage, now)
        pair = self._pairs.pop(ticket, None)
        if pair is not None and pair.prefilled_s is None:
            self._end_leg(pair, now)
            if outcome is Outcome.OK:
                self._prefilled(pair, now)

    def _count_decoding(self, ticket: Ticket, usage: Usage | None, now: float) -> None:
        if ticket.decision is None or ticket.dispatched_s is None:
            return
        replica = ticket.decision.replica
        if not self.planner.divides(replica.base_model):
            return
        slot = self._fleet.slot(replica.name)
        if slot is not None:
            output_tokens = 0 if usage is None else usage.completion_tokens or 0
            held_tokens = ticket.request.prompt_tokens + output_tokens / 2
            held_s = now - ticket.dispatched_s
            self.demand.add(Role.DECODE, held_tokens / float(self._load.capacity_tokens[slot]) * held_s, now)

    def _choose_again(self, pair: Pair, now: float) -> Choice | None:
        decision, decode_slot = pair.ticket.decision, self._decode_slot(pair)
        if decision is None or decode_slot is None or len(pair.tried) >= self._settings.max_prefills:
            return None
        prospect = self.planner.prospect(pair.waiting, now, pair.tried)
        if prospect is None:
            return None
        return self.planner.choose(pair.waiting, prospect, decode_slot, decision.cached_tokens, now)

    def _send_prefill(self, pair: Pair, choice: Choice, now: float) -> None:
        request, decision = pair.waiting.request, pair.ticket.decision
        spec, way = self._fleet.at(choice.slot), choice.way
        priority = None if decision is None else decision.priority
        leg_decision = Decision(spec, way.cached_tokens, priority=priority)
        leg = Ticket(request, now, leg_decision, dispatched_s=now, kind=TicketKind.PREFILL)
        self._settings.profile.dispatched(request, choice.candidates, choice.position, now)
        learns = request.prompt is not None
        self._in_flight.dispatch(leg, choice.slot, way.uncached_tokens, now, learns=learns, prefill_only=True)
        self._expect(pair.waiting.chain, choice.slot, now)
        self.stats.prefill_tokens += way.uncached_tokens
        pair.tried = (*pair.tried, spec.name)
        pair.prefilled_s = None
        pair.ticket.prefill = leg
        self._by_leg[leg] = pair

    def _prefilled(self, pair: Pair, now: float) -> None:
        pair.prefilled_s = now
        slot = self._decode_slot(pair)
        if slot is not None:
            self._expect(pair.waiting.chain, slot, now)

    def _end_leg(self, pair: Pair, now: float) -> None:
        """Of which nobody told the end: some data planes see only the whole request's."""
        leg = pair.ticket.prefill
        if leg is not None and self._by_leg.pop(leg, None) is not None:
            self._in_flight.end(leg)
            self._settings.profile.ended(leg, None, now)

    def _aggregate(self, pair: Pair, fallback: Fallback, now: float) -> None:
        ticket, slot = pair.ticket, self._decode_slot(pair)
        del self._pairs[ticket]
        ticket.prefill = None
        self.stats.fallbacks[fallback] += 1
        if slot is not None and self._in_flight.end(ticket):
            cached_tokens = 0 if ticket.decision is None else ticket.decision.cached_tokens
            uncached_tokens = max(ticket.request.prompt_tokens - cached_tokens, 0)
            self._in_flight.dispatch(ticket, slot, uncached_tokens, now, learns=ticket.request.streams)
            self._expect(pair.waiting.chain, slot, now)

    def _decode_slot(self, pair: Pair) -> int | None:
        """None: the decode replica is gone."""
        decision = pair.ticket.decision
        return None if decision is None else self._fleet.slot(decision.replica.name)
