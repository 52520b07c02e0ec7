"""One vLLM replica, driven from outside: requests in, steps out.

The caller owns the clock. A step is decided and accounted for when it begins; it takes
``StepResult.duration_s``, and what it emitted exists when that time has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from sim.engine.config import EngineConfig, KvLoadFailurePolicy
from sim.engine.events import KvEvent
from sim.engine.leases import Leases
from sim.engine.request import Request, Status
from sim.engine.scheduler import Scheduler
from sim.engine.step_time import PS_PER_S, Work
from sim.engine.stretch import decode_stretch


@dataclass(slots=True)
class StepResult:
    """What one step, or a stretch of equal steps, did."""

    duration_ps: int = 0
    steps: int = 1
    emitted: list[Request] = field(default_factory=list)
    """Requests that got one output token in each of the steps."""
    finished: list[Request] = field(default_factory=list)
    admitted: list[Request] = field(default_factory=list)
    """Requests that began to run, preempted ones included."""
    preempted: list[Request] = field(default_factory=list)
    fetching: list[Request] = field(default_factory=list)
    """Requests that took blocks for ``fetched_tokens`` of their prompt, which the caller is to bring: they wait for
    `Engine.kv_arrived` or `Engine.kv_failed`."""
    events: list[KvEvent] = field(default_factory=list)
    """Changes to the prefix cache since the last result, in order."""
    computed_tokens: int = 0
    """Prompt and output tokens computed, in all steps together."""

    @property
    def duration_s(self) -> float:
        return self.duration_ps / PS_PER_S


class Engine:
    """Scheduler, block pool and step time behind the few calls that a replica needs."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.requests: dict[str, Request] = {}
        """Those that run or wait, by id."""
        self._scheduler = Scheduler(config)
        self._leases = Leases(config.kv_lease_duration_s)

    def submit(self, request: Request, now: float) -> None:
        """Queue a request. Raises ValueError when it can never be served."""
        longest = self.config.max_model_len_tokens
        if request.id in self.requests or request.id in self._leases:
            raise ValueError(f"request id {request.id!r} is in use")
        if not 0 < request.prompt_tokens < longest:
            raise ValueError(f"a prompt needs 1 to {longest - 1} tokens, got {request.prompt_tokens}")
        if request.output_tokens < 1:
            raise ValueError(f"output_tokens must be at least 1, got {request.output_tokens}")
        if not 0 <= request.remote_tokens <= request.prompt_tokens:
            raise ValueError(f"remote_tokens must be within the prompt, got {request.remote_tokens}")
        request.output_tokens = min(request.output_tokens, longest - request.prompt_tokens)
        request.arrival_s = now
        self.requests[request.id] = request
        self._scheduler.waiting.add(request)

    def abort(self, request_id: str) -> bool:
        """End a request now and free its blocks. False when it is not here (any more).

        vLLM keeps the blocks of one that fetches for as long as something may still be written to them.
        """
        request = self.requests.pop(request_id, None)
        if request is None:
            return False
        self._scheduler.finish([request], Status.ABORTED)
        return True

    def kv_arrived(self, request_id: str) -> bool:
        """What the request fetched is in its blocks: it can run. False when it does not fetch (any more)."""
        return self._fetch_ended(request_id, arrived=True)

    def kv_failed(self, request_id: str) -> bool:
        """What the request fetched will not come: it computes its prompt here, or ends as ``FAILED``, as the
        configuration says. False when it does not fetch (any more)."""
        if self.config.kv_load_failure_policy is KvLoadFailurePolicy.RECOMPUTE:
            return self._fetch_ended(request_id, arrived=False)
        request = self._fetching(request_id)
        if request is not None:
            del self.requests[request_id]
            self._scheduler.finish([request], Status.FAILED)
        return request is not None

    def release(self, request_id: str) -> bool:
        """Free the blocks kept of a finished request: they were fetched. False when none are kept (any more)."""
        request = self._leases.take(request_id)
        if request is not None:
            self._scheduler.cache.release(request)
        return request is not None

    def renew_lease(self, request_id: str, now: float) -> None:
        """Keep the blocks of a finished request on, if they are kept: who is to fetch them still waits to do so."""
        self._leases.renew(request_id, now)

    def expire_leases(self, now: float) -> None:
        """Free kept blocks whose lease has ended. Each step does so, but a stuck engine takes none."""
        for request in self._leases.take_ended(now):
            self._scheduler.cache.release(request)

    def step(self, now: float) -> StepResult:
        """Take one step that begins now. One that computes nothing takes no time, and is not counted."""
        if self._leases:
            self.expire_leases(now)
        if not self.requests:
            return StepResult(steps=0, events=self._scheduler.cache.take_events())
        batch = self._scheduler.schedule(now)
        result = StepResult(admitted=batch.admitted, preempted=batch.preempted, fetching=batch.fetching)
        if not batch.tokens:
            result.steps, result.events = 0, self._scheduler.cache.take_events()
            return result
        work = Work()
        for request, tokens in batch.tokens.items():
            work.add(tokens, request.computed_tokens)
            result.computed_tokens += tokens
            request.computed_tokens += tokens
            if request.computed_tokens == request.total_tokens:
                request.total_tokens += 1
                result.emitted.append(request)
        result.duration_ps = self.config.step_time.duration_ps(work)
        self._finish_step(result, now)
        return result

    def advance(self, now: float, until_s: float = inf, max_steps: int | None = None) -> StepResult:
        """Take as many steps in one go as are certain to be alike; at least one.

        While every running request decodes and none can join, the batch stays as it is until one of them ends or
        blocks run out. Such steps are taken together as long as they begin before ``until_s``. The result is that
        of as many calls of ``step``, added up; its events are those of `sim.engine.stretch`. Leases that end on the
        way are seen to by the next call.
        """
        if self._leases:
            self.expire_leases(now)
        stretch = decode_stretch(self._scheduler, now, until_s, max_steps)
        if stretch is None:
            return self.step(now)
        running = self._scheduler.running
        result = StepResult(stretch.duration_ps, stretch.steps, emitted=list(running))
        result.computed_tokens = stretch.steps * len(running)
        for request in running:
            request.computed_tokens += stretch.steps
            request.total_tokens += stretch.steps
        self._finish_step(result, now)
        return result

    def reset_prefix_cache(self, *, preempt_running: bool = False) -> bool:
        """Empty the prefix cache. False while running requests hold blocks, unless they are preempted for it.

        As in vLLM, the event is reported by the next step, however late that comes.
        """
        return self._scheduler.reset_prefix_cache(preempt_running=preempt_running)

    @property
    def has_work(self) -> bool:
        """Whether the next step computes something. What waits for blocks that only ``release`` or ``kv_arrived``
        will free, or for its KV, is no work."""
        return bool(self.requests) and not self._scheduler.stuck

    @property
    def running(self) -> int:
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Those that fetch their KV included."""
        return len(self._scheduler.waiting) + len(self._scheduler.fetchers)

    @property
    def fetching(self) -> int:
        """Requests whose KV is on its way."""
        return sum(request.status is Status.FETCHING for request in self._scheduler.fetchers)

    @property
    def kept(self) -> int:
        """Finished requests whose blocks are kept for another replica."""
        return len(self._leases)

    def is_kept(self, request_id: str) -> bool:
        """Whether the blocks of this finished request are there for another replica."""
        return request_id in self._leases

    @property
    def expired_leases(self) -> int:
        """Kept requests that nobody came for in time."""
        return self._leases.expired

    @property
    def kv_usage(self) -> float:
        """Share of blocks that requests hold, 0..1. Cached blocks that nobody holds count as free."""
        return self._scheduler.cache.pool.used_blocks / self._scheduler.cache.pool.capacity

    @property
    def prefix_queries_tokens(self) -> int:
        """Tokens looked up in the prefix cache by requests that started, preempted ones counted once."""
        return self._scheduler.prefix_queries_tokens

    @property
    def prefix_hits_tokens(self) -> int:
        return self._scheduler.prefix_hits_tokens

    @property
    def preemptions(self) -> int:
        return self._scheduler.preemptions

    def _fetching(self, request_id: str) -> Request | None:
        request = self.requests.get(request_id)
        return request if request is not None and request.status is Status.FETCHING else None

    def _fetch_ended(self, request_id: str, *, arrived: bool) -> bool:
        request = self._fetching(request_id)
        if request is not None:
            self._scheduler.fetch_ended(request, arrived=arrived)
        return request is not None

    def _finish_step(self, result: StepResult, now: float) -> None:
        for request in result.emitted:
            if request.total_tokens == request.finish_total_tokens:
                result.finished.append(request)
                del self.requests[request.id]
                if request.keep_for_transfer:
                    self._leases.keep(request, now + result.duration_s)
        if result.finished:
            self._scheduler.finish(result.finished, Status.FINISHED)
        result.events = self._scheduler.cache.take_events()
