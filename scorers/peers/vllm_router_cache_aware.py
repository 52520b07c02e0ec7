"""vllm-project/router's ``cache_aware``: session, then prefix, then load; load alone when the fleet is out of balance.

Out of balance is a fleet whose loads (requests in flight) differ by more than ``balance_abs_threshold`` while the
highest is more than ``balance_rel_threshold`` times the lowest: the least loaded replica gets the request. Else a known
session stays with its replica. Else, when more than ``cache_threshold`` of the prompt is in the tree, the replica that
was first sent that prefix gets it, whoever else was sent it later; else the least loaded one. This is the rule of
SGLang's router as well, which takes the replica with the smallest tree instead of the least loaded in some versions.

Source: vllm-project/router, ``src/policies/cache_aware.rs`` (16917f4) and ``src/tree.rs`` (1dbe507: ``last_tenant`` is
set when a node is made); defaults by ``vllm-router --help`` of November 2026 (the library's are 0.5, 32 and 1.1).
The tree holds 32 Mi characters for each worker; sessions live for an hour. Not here: among equally loaded replicas it
takes the first in its list, this one draws.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View
from scorers.peers.blocks import chain_of
from scorers.peers.first_holders import FirstHolders
from scorers.peers.lexicographic import lexicographic
from scorers.peers.sent_prefixes import CHARS_PER_TOKEN

_CHUNK_TOKENS = 32


class VllmRouterCacheAware:
    name = "vllm-router-cache-aware"

    def __init__(
        self,
        cache_threshold: float = 0.3,
        balance_abs_threshold: float = 64.0,
        balance_rel_threshold: float = 1.5,
        max_tree_chars: int = 33_554_432,
        session_ttl_s: float = 3600.0,
        max_sessions: int = 100_000,
    ) -> None:
        self.cache_threshold = cache_threshold
        self.balance_abs_threshold = balance_abs_threshold
        self.balance_rel_threshold = balance_rel_threshold
        self.max_tree_chars = max_tree_chars
        self.session_ttl_s = session_ttl_s
        self.max_sessions = max_sessions
        self._first = FirstHolders(0)
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Replica and time of the last request, the least recent session first."""

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        load = view.running_requests + view.queued_requests
        low, high = load.min(), load.max()
        if high - low > self.balance_abs_threshold and high > self.balance_rel_threshold * low:
            return lexicographic(load)
        names = [replica.name for replica in candidates.replicas]
        home = self._session_home(request, view.now)
        if home not in names:
            home = self._prefix_home(request)
        return lexicographic(np.array([name != home for name in names]), load)

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        names = [replica.name for replica in candidates.replicas]
        self._first.max_chunks = self.max_tree_chars // CHARS_PER_TOKEN // _CHUNK_TOKENS * len(names)
        self._first.add(chain_of(request, _CHUNK_TOKENS).tolist(), names[position], names)
        if request.session_id:
            self._sessions[request.session_id] = (names[position], now)
            self._sessions.move_to_end(request.session_id)
            while len(self._sessions) > self.max_sessions:
                self._sessions.popitem(last=False)

    def _session_home(self, request: Request, now: float) -> str:
        name, seen_s = self._sessions.get(request.session_id, ("", 0.0))
        return name if now - seen_s <= self.session_ttl_s else ""

    def _prefix_home(self, request: Request) -> str:
        known, name = self._first.find(chain_of(request, _CHUNK_TOKENS).tolist())
        return name if known * _CHUNK_TOKENS > self.cache_threshold * request.prompt_tokens else ""
