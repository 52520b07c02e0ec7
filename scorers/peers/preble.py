"""Preble's E2: exploit what a replica holds when it is most of the prompt, else explore for the least costly replica.

WukLab/preble, multi_node/global_scheduler_with_time.py, ``runtime_selector``, commit 0c962c4, with eviction as its
server switches it on; "Preble: Efficient Distributed Prompt Scheduling for LLM Serving" (arXiv:2407.00023). With
``missed`` the prompt tokens that the replica with the longest match would have to compute:

* more matched than missed (exploit): of the replicas with the longest match, the one of the least ``load + eviction``;
* otherwise (explore): the replica of the least ``load + eviction + prefill``.

In seconds, over the last 3 minutes: ``load`` is the prefill of all requests sent there and the decoding of those in
flight; ``eviction`` is the time to compute again what would have to go; ``prefill`` that of this prompt's missed part
there (0 in the released code, in the paper's algorithm it counts). See `scorers.peers.preble_window`.

Preble keeps a tree of all prompts; here the router's own memory of what it sent tells what matches, and requests stand
for tree nodes in the window. Moving hot prefixes to other replicas is commented out in the released code, and so is not
here. Time per output token is taken from dispatch to end, since a scorer is not told of first tokens.
"""

from __future__ import annotations

import numpy as np

from router.core.fleet import MAX_REPLICAS
from router.core.load import Column
from router.core.types import Request, Scores, Ticket, Usage
from router.core.view import Candidates, View
from scorers.peers.lexicographic import lexicographic
from scorers.peers.preble_window import Window, prefill_s


class Preble:
    name = "preble"

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        """By replica; those that came first are forgotten when there were too many."""

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        matched = candidates.cached_tokens
        longest = matched.max()
        exploit = longest > request.prompt_tokens - longest
        passed_over = (matched < longest) & exploit
        return lexicographic(passed_over, self.cost_s(request, candidates, view))

    def cost_s(self, request: Request, candidates: Candidates, view: View) -> Column:
        """What the lowest of wins among those considered; between equal matches, ``prefill`` is the same."""
        in_flight = view.queued_requests + view.running_requests
        missed = request.prompt_tokens - candidates.cached_tokens
        costs = []
        for position, replica in enumerate(candidates.replicas):
            window = self._window(replica.name)
            window.expire(view.now)
            load_s = window.load_s(float(in_flight[position]))
            tokens = float(missed[position])
            eviction_s = window.eviction_s(tokens, float(view.capacity_tokens[position]))
            costs.append(load_s + eviction_s + prefill_s(tokens, request.prompt_tokens))
        return np.array(costs)

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        missed = request.prompt_tokens - float(candidates.cached_tokens[position])
        self._window(candidates.replicas[position].name).add(missed, request.prompt_tokens, now)

    def ended(self, ticket: Ticket, usage: Usage | None, now: float) -> None:
        if ticket.decision is not None:
            self._window(ticket.decision.replica.name).answered(ticket, usage, now)

    def _window(self, replica: str) -> Window:
        window = self._windows.get(replica)
        if window is None:
            window = self._windows[replica] = Window()
            if len(self._windows) > MAX_REPLICAS:
                del self._windows[next(iter(self._windows))]
        return window
