"""vLLM v1's scheduler: which request computes how many tokens in the next step.

There is no prefill phase and no decode phase. Every request has ``total_tokens`` (prompt and output so far) and
``computed_tokens``, and a step lets the second catch up with the first within one budget of tokens: requests that
run first, in their order, then waiting ones. When a running request finds no block, the least entitled running
request is preempted: it loses its blocks and is computed again later, prefix cache permitting.

Where another replica has computed the prompt, a waiting request takes blocks for what the cache does not have of it,
and leaves the queue. While it fetches that it holds nobody up. Then that is published, and the request joins the batch
before all that hold no blocks; if it did not come, the request gives its blocks back and begins anew, before them too.
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.engine.batch import Batch
from sim.engine.config import EngineConfig, Policy
from sim.engine.kernels import Blocks
from sim.engine.kv_cache import KvCache
from sim.engine.request import Request, Status
from sim.engine.waiting import make_queue


class Scheduler:
    """Owns the queues and the blocks."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.cache = KvCache(config)
        self.waiting = make_queue(config.policy)
        self.running: list[Request] = []
        self.fetchers: dict[Request, None] = {}
        """Requests that fetch, or have fetched and do not run yet; those that began first in front."""
        self.preemptions = 0
        self.prefix_queries_tokens = 0
        self.prefix_hits_tokens = 0

    def schedule(self, now: float) -> Batch:
        """Decide on the next step and reserve its blocks."""
        batch = Batch(self.config.max_num_batched_tokens)
        self._schedule_running(batch)
        if not batch.preempted:
            self._admit_waiting(batch, now)
        return batch

    def finish(self, requests: list[Request], status: Status) -> None:
        """Requests end, wherever they are. Their blocks become free, and remain hits, unless they are to be kept."""
        for request in requests:
            self._leave_queues(request)
            request.status = status
            if not (request.keep_for_transfer and status is Status.FINISHED):
                self.cache.release(request)
        self.running = [request for request in self.running if request.status is Status.RUNNING]

    def fetch_ended(self, request: Request, *, arrived: bool) -> None:
        """What a request fetches has come, or will not: then it computes that itself."""
        request.status = Status.FETCHED
        if not arrived:
            request.fetched_tokens = request.remote_tokens = 0

    @property
    def stuck(self) -> bool:
        """Nothing can be computed before a block is released or a fetch has ended."""
        if self.running:
            return False
        request = self._first()
        return request is None or request is self.cache.blocked

    def reset_prefix_cache(self, *, preempt_running: bool) -> bool:
        """Forget every cached block. False, and nothing is done, while requests hold blocks."""
        if preempt_running:
            while self.running:
                self._preempt(self.running.pop())
        return self.cache.reset()

    def may_admit(self) -> bool:
        """Whether a request can join the batch. Those that have just fetched are not looked into: that they can may be
        wrong."""
        if len(self.running) >= self.config.max_num_seqs:
            return False
        first = self._first()
        return first is not None and (first.status is Status.FETCHED or self._room_for(first) is not None)

    def _schedule_running(self, batch: Batch) -> None:
        index = 0
        while index < len(self.running) and batch.budget > 0:
            request = self.running[index]
            tokens = min(request.total_tokens - request.computed_tokens, batch.budget)
            while not self.cache.reserve(request, request.computed_tokens + tokens):
                victim = self._pick_victim()
                victim_index = self.running.index(victim)
                del self.running[victim_index]
                index -= victim_index < index
                batch.discard(victim)
                batch.preempted.append(victim)
                self._preempt(victim)
                if victim is request:
                    return
            batch.add(request, tokens)
            index += 1

    def _admit_waiting(self, batch: Batch, now: float) -> None:
        while batch.budget > 0 and len(self.running) < self.config.max_num_seqs:
            request = self._first()
            if request is None:
                return
            if request.status is Status.FETCHED:
                self._settle(request)
            hits = self._room_for(request)
            if hits is None:
                return
            if request in self.fetchers:
                del self.fetchers[request]
            else:
                self.waiting.pop()
            if not request.held_blocks:
                self._hold(request, hits)
                if request.remote_tokens > request.computed_tokens:
                    self._fetch(request)
                    batch.fetching.append(request)
                    continue
            self._start(request, now)
            tokens = min(request.total_tokens - request.computed_tokens, batch.budget)
            self.cache.reserve(request, request.computed_tokens + tokens)
            batch.add(request, tokens)
            batch.admitted.append(request)

    def _first(self) -> Request | None:
        """Whose turn it is to join the batch."""
        if self.fetchers:
            ready: Iterable[Request] = (one for one in self.fetchers if one.status is not Status.FETCHING)
            if self.config.policy is Policy.PRIORITY:
                ready = sorted(ready, key=lambda one: (one.priority, one.arrival_s, one.id))
            for request in ready:
                return request
        return self.waiting.first() if self.waiting else None

    def _room_for(self, request: Request) -> Blocks | None:
        """What is fetched keeps its blocks for long: it must not take those that prefills under way will need."""
        if not request.remote_tokens or request.held_blocks or request is self.cache.blocked:
            return self.cache.room_for(request)
        others = (*self.running, *self.fetchers)
        promised = sum(self.cache.blocks_of(one.total_tokens) - one.held_blocks for one in others)
        return self.cache.room_for(request, promised)

    def _hold(self, request: Request, hits: Blocks) -> None:
        self.cache.hold(request, hits)
        if not request.preemptions:
            request.cached_tokens = request.computed_tokens
            self.prefix_queries_tokens += request.total_tokens
            self.prefix_hits_tokens += request.computed_tokens

    def _fetch(self, request: Request) -> None:
        """The request takes blocks and waits for what comes into them."""
        self.cache.take(request, request.remote_tokens)
        request.fetched_tokens = request.remote_tokens - request.computed_tokens
        request.status = Status.FETCHING
        self.fetchers[request] = None

    def _settle(self, request: Request) -> None:
        """After a fetch: what has come is published; where nothing has, the blocks are given back."""
        request.status = Status.WAITING
        if request.fetched_tokens:
            held_tokens = request.computed_tokens + request.fetched_tokens
            request.computed_tokens = min(held_tokens, request.prompt_tokens - 1)
            self.cache.publish(request, held_tokens)
        else:
            self._begin_anew(request)

    def _start(self, request: Request, now: float) -> None:
        if not request.preemptions:
            request.scheduled_s = now
        request.status = Status.RUNNING
        self.running.append(request)

    def _pick_victim(self) -> Request:
        if self.config.policy is Policy.PRIORITY:
            return max(self.running, key=lambda request: (request.priority, request.arrival_s))
        return self.running[-1]

    def _preempt(self, request: Request) -> None:
        self._begin_anew(request)
        request.remote_tokens = 0
        request.preemptions += 1
        request.status = Status.PREEMPTED
        self.preemptions += 1
        self.waiting.put_back(request)

    def _begin_anew(self, request: Request) -> None:
        self.cache.release(request)
        request.hashed_blocks = 0
        request.computed_tokens = 0

    def _leave_queues(self, request: Request) -> None:
        """Running ones are taken out by the caller, all at once."""
        if request in self.fetchers:
            del self.fetchers[request]
        elif request.status is not Status.RUNNING:
            self.waiting.remove(request)
