"""Follows requests through the router and tells the program table and the lineage what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from router.core.flow import Waiting
from router.core.programs.budgets import Budgets
from router.core.programs.declare import Declaration
from router.core.programs.fair import Key
from router.core.programs.lineage import Lineage
from router.core.programs.lineage_rule import LineageLimits, Relation
from router.core.programs.lineage_trail import trail_of, whole_key
from router.core.programs.newcomer import Newcomer, newcomer
from router.core.programs.program import Program
from router.core.programs.step import State, Step
from router.core.programs.table import ProgramTable, TableLimits
from router.core.programs.tally import OTHERS
from router.core.types import Hashes, Outcome, Refusal, Ticket, Usage

_EXPIRY_INTERVAL_S = 0.01


class Programs:
    """A `FlowObserver` that is told before all others: they find a request's step in ``Waiting.step``."""

    def __init__(
        self,
        limits: TableLimits | None = None,
        lineage_limits: LineageLimits | None = None,
        infers: bool = True,
        budgets: Budgets | None = None,
        tenants: Iterable[str] = (),
    ) -> None:
        """``infers``: calls that nobody named are placed by their prompts. Without ``budgets`` none is refused.
        ``tenants`` are counted one by one, all others together."""
        self.table = ProgramTable(limits=limits)
        self.lineage = Lineage(lineage_limits) if infers else None
        self._budgets = budgets
        self.tenant_tokens = dict.fromkeys((*tenants, OTHERS), 0)
        """Tokens that replicas computed, prompts and answers."""
        self._expires_s = -inf
        self._under_way: dict[Ticket, Step | Newcomer] = {}
        """Requests that wait or run."""
        self._make_step = self._step
        """One object for all newcomers: what each keeps, the garbage collector looks at again and again."""

    @property
    def following(self) -> int:
        """Requests that wait or run."""
        return len(self._under_way)

    def admit(self, waiting: Waiting, now: float) -> Refusal | None:
        """Names the program of a request that comes. A refusal: it must not go on, and is not followed."""
        request = waiting.request
        is_opening = not request.program_name and self._name(waiting, now)
        budgets = self._budgets
        if budgets is None or request.excluded:
            return None
        program = self.table.get(request.program_key)
        refusal = budgets.refusal(program, request, now)
        if refusal is None and budgets.repeat_limit is not None and program is not None and not is_opening:
            repeats = program.sent.repeats_of(_whole_key(waiting), _is_answered(program, program.open))
            refusal = budgets.loop(program.key[1], repeats)
        return refusal

    def submitted(self, waiting: Waiting, now: float) -> None:
        if waiting.ticket in self._under_way:
            return
        request = waiting.request
        if request.lineage:
            self._first_call(request.program_key)
        step = waiting.call = self._under_way[waiting.ticket] = self.table.observe(request, now)
        found = _hashes(waiting)
        if found is not None:
            step.resent_tokens = step.program.sent.note(found[0]) * found[1]
        if self._budgets is not None and self._budgets.repeat_limit is not None:
            program = step.program
            program.sent.came(_whole_key(waiting), _is_answered(program, program.open - 1))

    def dispatched(self, waiting: Waiting, now: float) -> None:
        decision = waiting.ticket.decision
        cached_tokens = 0 if decision is None else decision.cached_tokens
        known = self._under_way[waiting.ticket]
        if isinstance(known, Newcomer):
            known.dispatched(cached_tokens, now)
        else:
            self.table.dispatched(known, cached_tokens, now)

    def started(self, ticket: Ticket, now: float) -> None:
        """The first token of a streamed answer came."""
        known = self._under_way.get(ticket)
        if isinstance(known, Newcomer):
            known.started(now)
        elif known is not None:
            self.table.started(known, now)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        known = self._under_way.pop(waiting.ticket)
        if isinstance(known, Newcomer):
            known.over(None, Outcome.CLIENT_GONE, now)
        else:
            self.table.withdrawn(known, now)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        known = self._under_way.pop(ticket)
        if isinstance(known, Newcomer):
            computed_tokens = known.over(usage, outcome, now)
            if outcome is Outcome.OK:
                self.table.estimator.learn_answer(known, usage)
        else:
            before = known.program.attained_tokens
            self.table.ended(known, usage, outcome, now)
            computed_tokens = known.program.attained_tokens - before
        tenant = ticket.request.tenant
        self.tenant_tokens[tenant if tenant in self.tenant_tokens else OTHERS] += computed_tokens

    def declare(self, key: Key, declaration: Declaration, now: float) -> Program:
        """Enters a declared graph. Raises DeclarationError when it is too large."""
        return self.table.declare(key, declaration, now)

    def forget(self, key: Key, now: float) -> bool:
        """Its client needs the program no more. Calls that are open go on. False: it is not known."""
        if self.lineage is not None:
            self.lineage.forget(*key)
        return self.table.finish(key, now)

    def expire(self, now: float) -> None:
        """Forgets some of what is idle; to be called often."""
        if now < self._expires_s:
            return
        self._expires_s = now + _EXPIRY_INTERVAL_S
        self.table.expire(now)
        if self.lineage is not None:
            self.lineage.expire(now)

    def _name(self, waiting: Waiting, now: float) -> bool:
        """Nobody said what program the request belongs to: its prompt may. True: it is an opening, which many programs
        may send word by word."""
        request, found = waiting.request, _hashes(waiting)
        if self.lineage is None or request.prompt is None or found is None:
            self._note(waiting, None, now)
            return False
        trail = trail_of(request.prompt, *found, request.tenant, waiting.model.base)
        kin = self.lineage.remember(trail, now)
        request.lineage = kin.program
        if kin.relation is Relation.NEW:
            self._note(waiting, found[0], now)
        return kin.parent == 0

    def _note(self, waiting: Waiting, hashes: Hashes | None, now: float) -> None:
        """Nothing is known of what the request belongs to. Whoever has budgets must be counted all the same, and what a
        client says of a call is for a step."""
        request = waiting.request
        if self._budgets is not None or request.program is not None:
            return
        known = newcomer(waiting.ticket, hashes, self.table, self._make_step, now)
        waiting.call = self._under_way[waiting.ticket] = known
        if self.lineage is not None and request.lineage:
            self.lineage.keep_first(request.program_key, known)

    def _first_call(self, key: Key) -> None:
        """A program that was inferred goes on: its first call is a step."""
        first = None if self.lineage is None else self.lineage.take_first(key)
        if first is not None:
            self._step(first)

    def _step(self, known: Newcomer) -> Step:
        if self.lineage is not None:
            self.lineage.take_first((known.tenant, known.lineage))
        step = known.tell(self.table)
        if known.ticket is not None:
            self._under_way[known.ticket] = step
        return step


def _hashes(waiting: Waiting) -> tuple[Hashes, int] | None:
    """Of the prompt's full blocks, and their size in tokens."""
    chain = waiting.chain
    if chain is None or not chain.hashes:
        return None
    size = min(chain.hashes)
    return chain.hashes[size], size


def _whole_key(waiting: Waiting) -> int | None:
    prompt, found = waiting.request.prompt, _hashes(waiting)
    return None if prompt is None or found is None else whole_key(prompt, *found)


def _is_answered(program: Program, others_open: int) -> bool:
    """Whether the program knows an answer to what it sent last. Samples that are asked for at once are no loop, nor is
    asking again what failed."""
    last = program.last_over
    return not others_open and last is not None and last.state is State.DONE
