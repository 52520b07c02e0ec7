"""Plans where a prompt is computed whose decode replica is known, and finds the best prefill replica for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import numpy as np

from router.core.disaggregation.plan import Choice, Plan, Prospect
from router.core.disaggregation.rule import Way, Ways
from router.core.disaggregation.settings import Disaggregation
from router.core.disaggregation.stats import Fallback
from router.core.disaggregation.topology import Distance, Topology
from router.core.disaggregation.transfers import Transfers
from router.core.fleet import Fleet, Slots
from router.core.flow import Gate, Waiting
from router.core.load import Column, Load
from router.core.prefix import Chain
from router.core.view import Candidates, Leg, View

LookUp = Callable[[Chain | None, Slots], Candidates]

_COPY_WEIGHT = 3.0
"""What is computed once more also takes the time and memory of those to come, as the scorer `added-cost` has it."""

_FETCH_WEIGHT = 1.0
"""What is fetched takes memory from other prefixes, too."""


class Planner:
    """Looks at everything and changes nothing."""

    def __init__(
        self, settings: Disaggregation, fleet: Fleet, load: Load, gate: Gate | None, random: Random, look_up: LookUp
    ) -> None:
        self.transfers = Transfers(settings.bytes_per_token)
        self._settings = settings
        self._fleet = fleet
        self._load = load
        self._gate = gate
        self._random = random
        self._look_up = look_up
        self._topology = Topology(fleet, settings.labels)

    def divides(self, base: str) -> bool:
        """Whether requests for a base model can have two legs."""
        return self._settings.among_equals or self._fleet.has_roles(base)

    def splits(self, waiting: Waiting) -> bool:
        """Whether this request can have two legs."""
        known = waiting.request.prompt is not None or not self._settings.aggregates
        return known and self.divides(waiting.model.base)

    def aggregates(self, base: str) -> bool:
        """Whether the replicas that answer for a base model can also compute prompts themselves."""
        return self._settings.aggregates or not self.divides(base)

    def foresee(self, waiting: Waiting, candidates: Candidates, view: View, now: float) -> Prospect | None:
        """Before one of ``candidates`` is chosen to answer: tells ``view`` what it costs to have the prompt computed
        elsewhere. None: nobody else may compute it, or is there."""
        prospect = self.prospect(waiting, now)
        if prospect is not None:
            view.elsewhere_tokens = self._elsewhere_tokens(waiting, prospect, candidates)
        return prospect

    def prospect(self, waiting: Waiting, now: float, tried: Iterable[str] = ()) -> Prospect | None:
        """Who could compute the prompt for another replica, less who has ``tried``. None: nobody may, or is there."""
        if not self._settings.rule.splits:
            return None
        slots = self._settings.profile.eligible(waiting.request, waiting.model, self._fleet)
        failed = [slot for name in tried if (slot := self._fleet.slot(name)) is not None]
        if failed:
            slots = slots[~np.isin(slots, failed)]
        if len(slots) == 0:
            return None
        return Prospect(self._look_up(waiting.chain, slots), View(self._load, slots, now, Leg.PREFILL))

    def plan(
        self, waiting: Waiting, prospect: Prospect | None, decode_slot: int, cached_tokens: int, now: float
    ) -> Plan:
        """What is best for a request that ``decode_slot`` will answer, and of whose prompt it holds
        ``cached_tokens``."""
        rule = self._settings.rule
        here = self._way(decode_slot, waiting.request.prompt_tokens, cached_tokens)
        if not self._fleet.decoding[decode_slot]:
            return Plan(False, rule.name, here, fallback=Fallback.NO_DECODE_REPLICA)
        if not rule.splits:
            return Plan(False, rule.name, here)
        choice = None if prospect is None else self.choose(waiting, prospect, decode_slot, cached_tokens, now)
        if choice is None:
            return Plan(False, rule.name, here, fallback=Fallback.NO_PREFILL_REPLICA)
        return Plan(rule.disaggregates(Ways(here, choice.way, choice.transfer_s)), rule.name, here, choice)

    def choose(
        self, waiting: Waiting, prospect: Prospect, decode_slot: int, cached_tokens: int, now: float
    ) -> Choice | None:
        """The best of ``prospect`` to compute the prompt for ``decode_slot``. None: it is the only one."""
        candidates, view = prospect.candidates, prospect.view
        others = candidates.slots != decode_slot
        if not others.any():
            return None
        if not others.all():
            candidates = candidates.among(others)
            view = View(self._load, candidates.slots, now, Leg.PREFILL)
        request, slots = waiting.request, candidates.slots
        distances = self._topology.distances(decode_slot)[slots]
        fetched_tokens = np.full(len(slots), request.prompt_tokens - cached_tokens, np.float64)
        view.transfer_s = self.transfers.seconds(fetched_tokens, waiting.model.base, distances)
        position = self._settings.profile.choose(request, candidates, view, self._random).position
        return Choice(
            candidates,
            position,
            Distance(int(distances[position])),
            self._way(int(slots[position]), request.prompt_tokens, int(candidates.cached_tokens[position])),
            float(view.transfer_s[position]),
            has_room=self._gate is None or bool(self._gate.room(waiting, candidates, view).any()),
        )

    def _elsewhere_tokens(self, waiting: Waiting, prospect: Prospect, decoding: Candidates) -> Column:
        """For each of ``decoding`` what it costs, in tokens to compute, to have the best of ``prospect`` compute the
        prompt for it; infinite for that one itself."""
        prompt_tokens, view = waiting.request.prompt_tokens, prospect.view
        uncached_tokens = prompt_tokens - prospect.candidates.cached_tokens
        cost_tokens = view.queued_prefill_tokens + _COPY_WEIGHT * uncached_tokens
        position = int(cost_tokens.argmin())
        slot = int(prospect.candidates.slots[position])
        fetched_tokens = prompt_tokens - decoding.cached_tokens
        distances = self._topology.distances(slot)[decoding.slots]
        transfer_s = self.transfers.seconds(fetched_tokens, waiting.model.base, distances)
        transfer_tokens = transfer_s * self._load.compute_rate(slot) + _FETCH_WEIGHT * fetched_tokens
        elsewhere_tokens: Column = cost_tokens[position] + transfer_tokens
        elsewhere_tokens[decoding.slots == slot] = np.inf
        return elsewhere_tokens

    def _way(self, slot: int, prompt_tokens: int, cached_tokens: int) -> Way:
        load = self._load
        return Way(
            replica=self._fleet.at(slot).name,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            queued_tokens=float(load.prefill_tokens[slot] + load.foreign_prefill_tokens[slot]),
            queued_requests=float(load.queued[slot] + load.foreign_queued[slot]),
            running_requests=float(load.started[slot] + load.foreign_running[slot]),
            tokens_per_s=load.compute_rate(slot),
        )
