"""Router: the one façade that every shell drives.

Shells feed it facts with the time they happened and carry out what it returns; it reads no clock and waits for
nothing. ``submit`` hands in a request, ``poll`` returns the tickets that may leave now, each with its decision or its
refusal, in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random

from router.core import refusals
from router.core.disaggregation.pairing import Pairing
from router.core.disaggregation.plan import Plan
from router.core.disaggregation.planner import Planner
from router.core.disaggregation.settings import Disaggregation
from router.core.fleet import Fleet, ModelRef, Slots
from router.core.flow import Flow, Order, Prioritising, ReplicaMemory, Waiting
from router.core.histogram import Histogram
from router.core.in_flight import InFlight
from router.core.index.batch import KvBatch
from router.core.index.prefix_index import Applied, PrefixIndex
from router.core.load import Load
from router.core.prefix import Chain, chain_of, look_up
from router.core.programs.describe import summarise_step
from router.core.programs.tracker import Programs
from router.core.scheduler import Explanation, Profile
from router.core.types import (
    Decision,
    Health,
    IndexState,
    LoadReport,
    Outcome,
    Refusal,
    RefusalReason,
    ReplicaSpec,
    Request,
    Ticket,
    TicketKind,
    Usage,
)
from router.core.view import Candidates, View
from router.core.waiting_room import WaitingRoom

_NOTHING_APPLIED = Applied(0, 0, 0, 0, 0, 0, 0)
LOWEST_PRIORITY = 2**31 - 1
"""For an engine that schedules by priority: after everybody else."""


@dataclass(slots=True, frozen=True)
class RouterSettings:
    """Times of the core."""

    predicted_ttl_s: float = 5.0
    """How long a dispatched prompt counts as held without an event that confirms it."""
    in_flight_timeout_s: float = 900.0
    """A request that never ends is taken off its replica's load after this."""
    settle_s: float = 1.0
    """A replica that reports nothing waiting has begun every request older than this."""
    unknown_capacity_blocks: int = 25_000
    """How much is remembered of a replica that does not tell its capacity."""
    retry_after_s: float = 1.0
    """What a client is told when no replica is healthy."""


@dataclass(slots=True)
class RouterStats:
    """Counters since the start."""

    submitted: int = 0
    dispatched: int = 0
    refused: dict[RefusalReason, int] = field(default_factory=lambda: dict.fromkeys(RefusalReason, 0))
    withdrawn: int = 0
    """Clients that left while their request waited."""
    ended: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    timed_out_in_flight: int = 0
    prompt_tokens: int = 0
    predicted_cached_tokens: int = 0
    reported_prompt_tokens: int = 0
    reported_cached_tokens: int = 0
    events_of_unknown_replica: int = 0
    ttft_s: Histogram = field(default_factory=Histogram)
    """From ``submit`` to the first byte of a streamed answer."""
    e2e_s: Histogram = field(default_factory=Histogram)
    """From ``submit`` to the end of an answer that ended well."""


class Router:
    """Index, load and profiles, driven by facts. Single-threaded: one shell calls it at a time."""

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        settings: RouterSettings | None = None,
        seed: int | None = None,
        flow: Flow | None = None,
        programs: Programs | None = None,
        disaggregation: Disaggregation | None = None,
    ) -> None:
        """``profiles`` must have the key ``default``. Without a ``flow``, nothing waits; without ``programs``, each
        request stands for itself; without ``disaggregation``, it is served by one replica."""
        self.settings = settings or RouterSettings()
        self.profiles = dict(profiles)
        self.fleet = Fleet()
        self.index = PrefixIndex()
        self.load = Load()
        self.stats = RouterStats()
        self._random = Random(seed)
        self._flow = flow or Flow()
        self.programs = programs
        self.room = WaitingRoom(self._flow, self._leave, self._memories, self._refuse, programs)
        self._prioritising = self._flow.order if isinstance(self._flow.order, Prioritising) else None
        self._refused: list[Ticket] = []
        self._in_flight = InFlight(self.load)
        self._planner: Planner | None = None
        self.pairing: Pairing | None = None
        if disaggregation is not None:
            self._disaggregate(disaggregation)

    def submit(self, request: Request, now: float) -> Ticket:
        """Takes a request in; a ``poll`` says what becomes of it."""
        ticket = Ticket(request, now)
        number = self.stats.submitted
        self.stats.submitted += 1
        model = self.fleet.resolve(request.model)
        if model is None:
            return self._refused_at_once(ticket, self._unknown_model(request.model))
        if request.says_transfer and self._hands_over(model.base):
            return self._refused_at_once(ticket, refusals.own_transfer())
        chain = None
        if request.prompt is not None:
            chain = chain_of(request.prompt, model, request.cache_salt, self.fleet)
        waiting = Waiting(ticket, model, chain, number, self._best_cached_tokens)
        refusal = None if self.programs is None else self.programs.admit(waiting, now)
        if refusal is not None:
            return self._refused_at_once(ticket, refusal)
        self.room.enter(waiting, now)
        return ticket

    def poll(self, now: float) -> list[Ticket]:
        """The tickets that leave now, each with ``decision`` or ``refusal`` set, in order."""
        for ticket in self._in_flight.give_up(now - self.settings.in_flight_timeout_s):
            self.stats.timed_out_in_flight += 1
            self._ended(ticket, None, Outcome.TIMEOUT, now)
        self.index.expire(now)
        if self.programs is not None:
            self.programs.expire(now)
        refused, self._refused = self._refused, []
        return refused + self.room.leave(now)

    def withdraw(self, ticket: Ticket, now: float) -> bool:
        """The client of a waiting request is gone. False: it is not waiting."""
        withdrawn = self.room.withdraw(ticket, now)
        self.stats.withdrawn += withdrawn
        return withdrawn

    def next_wakeup(self) -> float | None:
        """When to poll again if nothing happens: a request in flight may have to be given up, a held one let in."""
        oldest_s = self._in_flight.oldest_s()
        overdue_s = None if oldest_s is None else oldest_s + self.settings.in_flight_timeout_s
        times_s = (overdue_s, self.room.next_wakeup())
        return min((time_s for time_s in times_s if time_s is not None), default=None)

    def warm_up(self, waiting: Waiting, most_running: int, now: float) -> Ticket | None:
        """Sends the prompt of a request that was sent before once more, to the replica where it would run now, and so
        what goes on from it, among those that have no prompt to compute and answer ``most_running`` requests at most.
        It weighs on that replica until `on_response_end`; programs, queue and counters hear nothing of it. None:
        something waits, or there is no such replica."""
        if self._planner is not None and not self._planner.aggregates(waiting.model.base):
            return None
        request, profile = waiting.request, self._profile(waiting.request)
        slots = self._eligible(waiting, profile)
        view = View(self.load, slots, now)
        idle = (view.queued_requests == 0) & (view.running_requests <= most_running)
        if self.waiting or not idle.any():
            return None
        candidates = self._look_up(waiting.chain, slots)
        if self._flow.gate is not None:
            idle &= self._flow.gate.room(waiting, candidates, view)
            if not idle.any():
                return None
        candidates = candidates.among(idle)
        view = View(self.load, candidates.slots, now)
        position = profile.choose(request, candidates, view, self._random).position
        profile.dispatched(request, candidates, position, now)
        slot, cached_tokens = int(candidates.slots[position]), int(candidates.cached_tokens[position])
        priority = None if self._prioritising is None else LOWEST_PRIORITY
        decision = Decision(self.fleet.at(slot), cached_tokens, priority=priority)
        ticket = Ticket(request, now, decision, dispatched_s=now, kind=TicketKind.WARM_UP)
        uncached_tokens = max(request.prompt_tokens - cached_tokens, 0)
        self._in_flight.dispatch(ticket, slot, uncached_tokens, now, learns=request.streams)
        self._expect(waiting.chain, slot, now)
        return ticket

    def on_response_start(self, ticket: Ticket, now: float) -> None:
        """The replica's first body byte arrived."""
        self._in_flight.start(ticket, now)
        if self.pairing is not None:
            self.pairing.started(ticket, now)
        if ticket.request.streams:
            if self.programs is not None:
                self.programs.started(ticket, now)
            self.stats.ttft_s.observe(now - ticket.submitted_s)

    def on_response_end(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """The request, or its prefill leg, is over, however it ended. Ends after a timeout in flight are ignored."""
        if ticket.kind is TicketKind.PREFILL:
            self._prefill_ended(ticket, usage, outcome, now)
            return
        if not self._in_flight.end(ticket):
            return
        self._ended(ticket, usage, outcome, now)
        if ticket.kind is TicketKind.WARM_UP:
            return
        self.stats.ended[outcome] += 1
        if outcome is Outcome.OK:
            self.stats.e2e_s.observe(now - ticket.submitted_s)
        if usage is not None and usage.prompt_tokens is not None and usage.cached_tokens is not None:
            self.stats.reported_prompt_tokens += usage.prompt_tokens
            self.stats.reported_cached_tokens += usage.cached_tokens

    def prefill_elsewhere(self, ticket: Ticket, now: float) -> bool:
        """The request's prefill leg ended badly. True: ``ticket.prefill`` is another one. False: it has none any more,
        the replica of its decision computes the prompt itself."""
        return self.pairing is not None and self.pairing.prefill_elsewhere(ticket, now)

    def serve_whole(self, ticket: Ticket, now: float) -> None:
        """The replica of the request's decision computes the prompt itself after all: ``ticket.prefill`` is None."""
        if self.pairing is not None:
            self.pairing.serve_whole(ticket, now)

    def on_replica(self, spec: ReplicaSpec, now: float) -> None:
        """A replica appeared, or what is known of it changed. Raises FleetFullError."""
        known_slot = self.fleet.slot(spec.name)
        slot = self.fleet.put(spec)
        capacity_tokens = spec.capacity_blocks * spec.block_size_tokens
        if known_slot is None:
            self._in_flight.new_tenant(slot)
            self.load.reset(slot, capacity_tokens)
        else:
            self.load.set_capacity(slot, capacity_tokens)

    def on_replica_gone(self, name: str, now: float) -> None:
        slot = self.fleet.remove(name)
        if slot is not None:
            self._in_flight.new_tenant(slot)
            self.index.drop(slot)
            self.load.reset(slot, 0)

    def on_health(self, name: str, health: Health, now: float) -> None:
        self.fleet.set_health(name, health)

    def on_load(self, name: str, report: LoadReport, now: float) -> None:
        slot = self.fleet.slot(name)
        if slot is None:
            return
        if report.waiting == 0:
            self._in_flight.settle(slot, now - self.settings.settle_s)
        self.load.report(slot, report)
        if self.programs is not None:
            self.programs.table.rates.prefill_tokens_per_s = self.load.fleet_rate()

    def on_kv_events(self, name: str, batch: KvBatch, now: float) -> Applied:
        slot = self.fleet.slot(name)
        if slot is None:
            self.stats.events_of_unknown_replica += 1
            return _NOTHING_APPLIED
        return self.index.apply(slot, batch)

    def on_index_state(self, name: str, state: IndexState, now: float) -> None:
        """How far the replica's events can be trusted from now on; DEGRADED forgets what they said."""
        slot = self.fleet.slot(name)
        if slot is None:
            return
        self.fleet.index_states[slot] = state
        if state is IndexState.DEGRADED:
            self.index.drop(slot)

    def on_index_reset(self, name: str, now: float) -> None:
        """The replica's cache is empty, or a replay is about to tell all of it again."""
        slot = self.fleet.slot(name)
        if slot is not None:
            self.index.drop(slot)

    @property
    def in_flight(self) -> int:
        """Requests that replicas are working on."""
        return len(self._in_flight)

    @property
    def order(self) -> Order:
        return self._flow.order

    @property
    def waiting(self) -> int:
        """Requests that have not left yet."""
        return len(self.room)

    def _leave(self, waiting: Waiting, now: float) -> bool:
        """Decides or refuses the request. False: no replica has room, it stays."""
        ticket, request = waiting.ticket, waiting.request
        profile = self._profile(request)
        slots = self._eligible(waiting, profile)
        if len(slots) == 0:
            self._refuse(ticket, refusals.no_replica(waiting.model, self.settings.retry_after_s))
            return True
        candidates = self._look_up(waiting.chain, slots)
        view = View(self.load, slots, now)
        if self._flow.gate is not None:
            room = self._flow.gate.room(waiting, candidates, view)
            if not room.any():
                return False
            if not room.all():
                candidates = candidates.among(room)
                view = View(self.load, candidates.slots, now)
        planner = self._planner_for(waiting)
        prospect = None if planner is None else planner.foresee(waiting, candidates, view, now)
        position, explanation, runners_up = profile.choose(request, candidates, view, self._random)
        slot = int(candidates.slots[position])
        spec, cached_tokens = self.fleet.at(slot), int(candidates.cached_tokens[position])
        plan = None if planner is None else planner.plan(waiting, prospect, slot, cached_tokens, now)
        if plan is not None and plan.must_wait:
            waiting.awaits_prefill = True
            return False
        profile.dispatched(request, candidates, position, now)
        priority = None if self._prioritising is None else self._prioritising.engine_priority(waiting)
        if explanation is not None:
            explanation = self._completed(explanation, waiting, plan, priority, now)
        fallbacks = tuple([self.fleet.at(int(candidates.slots[each])) for each in runners_up])
        ticket.decision = Decision(spec, cached_tokens, explanation, priority, fallbacks)
        ticket.dispatched_s = now
        if plan is not None and self.pairing is not None:
            self.pairing.carry_out(plan, waiting, now)
        self._weigh(waiting, slot, cached_tokens, now)
        self._count_dispatch(ticket, cached_tokens)
        return True

    def _weigh(self, waiting: Waiting, slot: int, cached_tokens: int, now: float) -> None:
        """On the replica that answers. A prompt that another one computes it holds later, and does not compute."""
        ticket, request = waiting.ticket, waiting.request
        if ticket.prefill is None:
            uncached_tokens = max(request.prompt_tokens - cached_tokens, 0)
            self._in_flight.dispatch(ticket, slot, uncached_tokens, now, learns=request.streams)
            self._expect(waiting.chain, slot, now)
        else:
            self._in_flight.dispatch(ticket, slot, 0, now, learns=False)

    def _completed(
        self, why: Explanation, waiting: Waiting, plan: Plan | None, priority: int | None, now: float
    ) -> Explanation:
        """With what the profile does not know."""
        queue = self._explain_wait(waiting, priority, now)
        program = None if waiting.step is None else summarise_step(waiting.step)
        disaggregation = None if plan is None else plan.explain()
        return replace(why, queue=queue, program=program, disaggregation=disaggregation)

    def _explain_wait(self, waiting: Waiting, priority: int | None, now: float) -> dict[str, object]:
        """Who found room at once was never ranked."""
        waited_s = now - waiting.ticket.submitted_s
        queued = self.room.has_queued(waiting)
        return {
            "order": self.order.name,
            "waited_s": round(waited_s, 4),
            "waited_for": "admission" if waiting.held else "room" if queued else None,
            "rank": self.order.rank(waiting, now) if queued else None,
            "priority": priority,
        }

    def _count_dispatch(self, ticket: Ticket, cached_tokens: int) -> None:
        """What a prefill leg finds cached need not be computed either."""
        stats, leg = self.stats, ticket.prefill
        stats.dispatched += 1
        stats.prompt_tokens += ticket.request.prompt_tokens
        stats.predicted_cached_tokens += (
            cached_tokens if leg is None or leg.decision is None else leg.decision.cached_tokens
        )

    def _prefill_ended(self, leg: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        if self.pairing is not None:
            self.pairing.prefill_ended(leg, usage, outcome, now)

    def _ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        if ticket.kind is TicketKind.PREFILL:
            self._prefill_ended(ticket, usage, outcome, now)
            return
        if ticket.kind is TicketKind.REQUEST:
            if self.pairing is not None:
                self.pairing.ended(ticket, usage, outcome, now)
            self.room.ended(ticket, usage, outcome, now)
        self._profile(ticket.request).ended(ticket, usage, now)

    def _profile(self, request: Request) -> Profile:
        return self.profiles.get(request.profile) or self.profiles["default"]

    def _eligible(self, waiting: Waiting, profile: Profile) -> Slots:
        """Where the request may go: only the replica that it is pinned to, if that one may serve it."""
        slots = profile.eligible(waiting.request, waiting.model, self.fleet)
        if not waiting.pinned:
            return slots
        pinned = slots[slots == self.fleet.slot(waiting.pinned)]
        return pinned if len(pinned) else slots

    def _look_up(self, chain: Chain | None, slots: Slots) -> Candidates:
        return look_up(chain, slots, self.fleet, self.index)

    def _best_cached_tokens(self, waiting: Waiting) -> int:
        slots = self._eligible(waiting, self._profile(waiting.request))
        return int(self._look_up(waiting.chain, slots).cached_tokens.max()) if len(slots) else 0

    def _memories(self) -> list[ReplicaMemory]:
        """Of the healthy replicas that hold programs' contexts, for an admission."""
        load, fleet = self.load, self.fleet
        slots = fleet.slots[(fleet.routable & fleet.decoding)[fleet.slots]]
        columns = (slots, load.capacity_tokens[slots], load.kv_usage[slots], load.prefill_rate[slots])
        memories = []
        for slot, capacity_tokens, usage, rate in zip(*(column.tolist() for column in columns), strict=True):
            spec = fleet.at(slot)
            memories.append(ReplicaMemory(spec.name, capacity_tokens, usage * capacity_tokens, rate, spec.base_model))
        return memories

    def _refused_at_once(self, ticket: Ticket, refusal: Refusal) -> Ticket:
        """The next `poll` returns it."""
        self._refuse(ticket, refusal)
        self._refused.append(ticket)
        return ticket

    def _refuse(self, ticket: Ticket, refusal: Refusal) -> None:
        ticket.refusal = refusal
        self.stats.refused[refusal.reason] += 1

    def _unknown_model(self, name: str) -> Refusal:
        served = self.fleet.model_names()
        if not served:
            return refusals.no_replica(ModelRef(name), self.settings.retry_after_s)
        return refusals.unknown_model(name, served)

    def _planner_for(self, waiting: Waiting) -> Planner | None:
        """None: the request has one leg in any case."""
        planner = self._planner
        return planner if planner is not None and planner.splits(waiting) else None

    def _hands_over(self, base: str) -> bool:
        """Whether replicas of a base model fetch KV blocks from each other."""
        return self.fleet.has_roles(base) or (self._planner is not None and self._planner.divides(base))

    def _expect(self, chain: Chain | None, slot: int, now: float) -> None:
        """The replica will hold this prompt in a moment: siblings should know now."""
        spec = self.fleet.at(slot)
        hashes = None if chain is None else chain.hashes.get(spec.block_size_tokens)
        if chain is None or hashes is None or len(hashes) == 0:
            return
        if spec.reports_events and chain.exact:
            self.index.predict(slot, hashes, now + self.settings.predicted_ttl_s)
        else:
            self.index.remember(slot, hashes, spec.capacity_blocks or self.settings.unknown_capacity_blocks)

    def _disaggregate(self, settings: Disaggregation) -> None:
        fleet, load = self.fleet, self.load
        self._planner = Planner(settings, fleet, load, self._flow.gate, self._random, self._look_up)
        self.pairing = Pairing(settings, self._planner, fleet, load, self._in_flight, self._expect)
