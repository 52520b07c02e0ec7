"""One vLLM replica, driven from outside: requests in, steps out.

The caller owns the clock. A step is decided and accounted for when it begins; it takes
``StepResult.duration_s``, and what it emitted exists when that time has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from sim.engine.config import EngineConfig
from sim.engine.events import KvEvent
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

    def submit(self, request: Request, now: float) -> None:
        """Queue a request. Raises ValueError when it can never be served."""
        longest = self.config.max_model_len_tokens
        if request.id in self.requests:
            raise ValueError(f"request id {request.id!r} is in use")
        if not 0 < request.prompt_tokens < longest:
            raise ValueError(f"a prompt needs 1 to {longest - 1} tokens, got {request.prompt_tokens}")
        if request.output_tokens < 1:
            raise ValueError(f"output_tokens must be at least 1, got {request.output_tokens}")
        request.output_tokens = min(request.output_tokens, longest - request.prompt_tokens)
        request.arrival_s = now
        self.requests[request.id] = request
        self._scheduler.waiting.add(request)

    def abort(self, request_id: str) -> bool:
        """End a request now and free its blocks. False when it is not here (any more)."""
        request = self.requests.pop(request_id, None)
        if request is None:
            return False
        self._scheduler.finish([request], Status.ABORTED)
        return True

    def step(self, now: float) -> StepResult:
        """Take one step that begins now. Without requests there is nothing to do, and it takes no time."""
        if not self.requests:
            return StepResult(steps=0, events=self._scheduler.take_events())
        batch = self._scheduler.schedule(now)
        result = StepResult(admitted=batch.admitted, preempted=batch.preempted)
        work = Work()
        for request, tokens in batch.tokens.items():
            work.add(tokens, request.computed_tokens)
            result.computed_tokens += tokens
            request.computed_tokens += tokens
            if request.computed_tokens == request.total_tokens:
                request.total_tokens += 1
                result.emitted.append(request)
        result.duration_ps = self.config.step_time.duration_ps(work)
        self._finish_step(result)
        return result

    def advance(self, now: float, until_s: float = inf, max_steps: int | None = None) -> StepResult:
        """Take as many steps in one go as are certain to be alike; at least one.

        While every running request decodes and none can join, the batch stays as it is until one of them ends or
        blocks run out. Such steps are taken together as long as they begin before ``until_s``. The result is that
        of as many calls of ``step``, added up; its events are those of `sim.engine.stretch`.
        """
        stretch = decode_stretch(self._scheduler, now, until_s, max_steps)
        if stretch is None:
            return self.step(now)
        running = self._scheduler.running
        result = StepResult(stretch.duration_ps, stretch.steps, emitted=list(running))
        result.computed_tokens = stretch.steps * len(running)
        for request in running:
            request.computed_tokens += stretch.steps
            request.total_tokens += stretch.steps
        self._finish_step(result)
        return result

    def reset_prefix_cache(self, *, preempt_running: bool = False) -> bool:
        """Empty the prefix cache. False while running requests hold blocks, unless they are preempted for it.

        As in vLLM, the event is reported by the next step, however late that comes.
        """
        return self._scheduler.reset_prefix_cache(preempt_running=preempt_running)

    @property
    def has_work(self) -> bool:
        return bool(self.requests)

    @property
    def running(self) -> int:
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def kv_usage(self) -> float:
        """Share of blocks that requests hold, 0..1. Cached blocks that nobody holds count as free."""
        return self._scheduler.pool.used_blocks / self._scheduler.pool.capacity

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

    def _finish_step(self, result: StepResult) -> None:
        for request in result.emitted:
            if request.total_tokens == request.finish_total_tokens:
                result.finished.append(request)
                del self.requests[request.id]
        if result.finished:
            self._scheduler.finish(result.finished, Status.FINISHED)
        result.events = self._scheduler.take_events()
