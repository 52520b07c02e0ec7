"""A request that nothing names and that goes on from nothing: written down as it is, and a step only when that matters.

Of most such requests nothing more is ever heard, and nobody asks for their place in a graph. What became of one is told
to the table when somebody does, or when a second call shows that it was the first of a program. What its class can
learn from it, it learns at once: how long such programs are, and what such calls take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from router.core.programs.history import ClassHistory
from router.core.programs.progress import spent
from router.core.programs.rank import set_tail, settle
from router.core.programs.sketch import Sketch
from router.core.programs.step import Step
from router.core.programs.table import SINGLE, ProgramTable
from router.core.types import Hashes, Outcome, Prompt, Request, Ticket, Usage

_ANY_TOKEN = np.uint32(0)


@dataclass(slots=True, eq=False)
class Newcomer:
    """A `Call`. Times are None as long as it has not come that far."""

    ticket: Ticket | None
    """While it waits or runs."""
    tenant: str
    lineage: str
    """The program that it is the first call of; empty: its prompt says nothing."""
    request_id: str
    max_tokens: int | None
    prompt_tokens: int
    """Of the prompt, then as its replica says."""
    blocks: int
    """Full ones of its prompt, ..."""
    last_hash: int
    """... and the hash of the last of them."""
    came_s: float
    class_history: ClassHistory
    expected_tokens: float
    """Of its answer, ..."""
    calls_after: float
    """... calls that follow on the longest path, ..."""
    tail_s: float
    """... and their time, as all of that was expected when it came."""
    make_step: Callable[[Newcomer], Step]
    known_step: Step | None = None
    dispatched_s: float | None = None
    cached_tokens: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    usage: Usage | None = None
    outcome: Outcome = Outcome.CLIENT_GONE

    kind: ClassVar[str] = ""
    hinted_tokens: ClassVar[int | None] = None
    usual_tokens: ClassVar[float] = 0.0

    @property
    def is_step(self) -> bool:
        return self.known_step is not None

    @property
    def step(self) -> Step:
        if self.known_step is None:
            self.known_step = self.make_step(self)
        return self.known_step

    @property
    def output_tokens(self) -> float:
        return self.expected_tokens if self.known_step is None else self.known_step.output_tokens

    @property
    def final(self) -> bool:
        return not self.lineage if self.known_step is None else self.known_step.final

    @property
    def history(self) -> ClassHistory:
        return self.class_history if self.known_step is None else self.known_step.history

    def waits_s(self) -> Sketch:
        return self.history.waits_s(self.kind)

    def dispatched(self, cached_tokens: int, now: float) -> None:
        self.dispatched_s, self.cached_tokens = now, cached_tokens

    def started(self, now: float) -> None:
        self.started_s = now

    def over(self, usage: Usage | None, outcome: Outcome, now: float) -> int:
        """It ended, or its client left while it waited. Returns the tokens that were computed for it."""
        self.usage, self.outcome, self.ended_s, self.ticket = usage, outcome, now, None
        if self.dispatched_s is None or outcome is Outcome.REJECTED:
            return 0
        self.prompt_tokens, self.cached_tokens, answered = spent(self.prompt_tokens, self.cached_tokens, usage)
        return max(self.prompt_tokens - self.cached_tokens, 0) + answered

    def tell(self, table: ProgramTable) -> Step:
        """All that became of it so far."""
        step = table.observe(self._request(), self.came_s, is_told=True)
        step.output_tokens = self.expected_tokens
        set_tail(step, self.calls_after, self.tail_s)
        settle(step)
        if self.blocks:
            step.program.sent.begin(self.blocks, self.last_hash)
        if self.dispatched_s is not None:
            table.dispatched(step, self.cached_tokens, self.dispatched_s)
        if self.started_s is not None:
            table.started(step, self.started_s)
        if self.ended_s is not None and self.dispatched_s is not None:
            table.ended(step, self.usage, self.outcome, self.ended_s, is_told=True)
        elif self.ended_s is not None:
            table.withdrawn(step, self.ended_s)
        self.known_step = step
        return step

    def _request(self) -> Request:
        """As it came; once it is over, as far as a step needs it."""
        if self.ticket is not None:
            return self.ticket.request
        prompt = Prompt(np.broadcast_to(_ANY_TOKEN, self.prompt_tokens))
        return Request(self.request_id, "", prompt, self.max_tokens, tenant=self.tenant, lineage=self.lineage)


def newcomer(
    ticket: Ticket, hashes: Hashes | None, table: ProgramTable, make_step: Callable[[Newcomer], Step], now: float
) -> Newcomer:
    """``hashes`` are those of the prompt's full blocks, if it has any. Its class hears of it."""
    request = ticket.request
    blocks = 0 if hashes is None else len(hashes)
    last_hash = hashes.item(-1) if hashes is not None and blocks else 0
    history = table.history.of(request.tenant, "" if request.lineage else SINGLE)
    history.lengths.add(1)
    outlook = table.estimator.first(history, request.max_tokens)
    said = request.tenant, request.lineage, request.id, request.max_tokens, request.prompt_tokens
    return Newcomer(ticket, *said, blocks, last_hash, now, history, *outlook, make_step)
