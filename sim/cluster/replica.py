"""One replica in virtual time: the engine model, asleep while nothing but decoding happens.

A decode step differs from the one before by a few picoseconds. Once a step has shown that all running requests
decode and none can join, it is certain for how many steps that will stay so, and how long they take: until the first
of them ends, or blocks may run out. The replica sleeps until then and takes the steps in one go. Whoever needs its
state earlier wakes it: it catches up with the steps that have begun by then. So a sleep changes nothing but the
moment at which KV events of decoded blocks are published: they wait for its end, at most one report interval.
"""

from __future__ import annotations

from typing import Protocol

from router.core.types import LoadReport
from sim.cluster.timeline import Timeline
from sim.engine import Engine, EngineConfig, Request, StepResult
from sim.engine.step_time import PS_PER_S


class Listener(Protocol):
    """Is told of every step, or stretch of decode steps."""

    def step_began(self, replica: Replica, result: StepResult) -> None: ...
    def step_ended(self, replica: Replica, result: StepResult) -> None: ...


class Replica:
    """Drives one engine along the timeline."""

    def __init__(self, number: int, config: EngineConfig, timeline: Timeline, listener: Listener) -> None:
        self.number = number
        self.engine = Engine(config)
        self.busy_ps = 0
        self.computed_tokens = 0
        """Prompt and output tokens, those computed again after a preemption included."""
        self.steps = 0
        self._timeline = timeline
        self._listener = listener
        self._stepping = False
        self._joined = False
        """A request, its KV or free blocks came since the last step began."""
        self._asleep_since_s: float | None = None
        self._sleeps = 0

    @property
    def busy_s(self) -> float:
        return self.busy_ps / PS_PER_S

    def submit(self, request: Request) -> None:
        """Queue a request. Raises ValueError when the engine can never serve it."""
        self._catch_up()
        self.engine.submit(request, self._timeline.now)
        self._go_on()

    def kv_arrived(self, request_id: str) -> None:
        """What a request fetched is here."""
        self._catch_up()
        self.engine.kv_arrived(request_id)
        self._go_on()

    def kv_failed(self, request_id: str) -> None:
        """What a request fetched will not come."""
        self._catch_up()
        self.engine.kv_failed(request_id)
        self._go_on()

    def release(self, request_id: str) -> None:
        """Another replica has fetched the blocks kept of this request."""
        self._catch_up()
        self.engine.release(request_id)
        self._go_on()

    def expire_leases(self) -> None:
        """Some that were kept may have been kept long enough."""
        if self.engine.kept:
            self._catch_up()
            self.engine.expire_leases(self._timeline.now)
            self._go_on()

    def report(self) -> LoadReport:
        """What a scrape of its metrics would tell now."""
        self._catch_up()
        engine = self.engine
        return LoadReport(
            engine.running,
            engine.waiting,
            engine.kv_usage,
            float(engine.prefix_queries_tokens),
            float(engine.prefix_hits_tokens),
        )

    def _go_on(self) -> None:
        """There may be more to compute than when the last step began."""
        self._joined = True
        if not self._stepping and self.engine.has_work:
            self._step()

    def _step(self) -> None:
        self._joined = False
        self._begin(self.engine.step(self._timeline.now), self._timeline.now)

    def _begin(self, result: StepResult, began_s: float) -> None:
        self._stepping = True
        self.busy_ps += result.duration_ps
        self.computed_tokens += result.computed_tokens
        self.steps += result.steps
        self._listener.step_began(self, result)
        self._timeline.at(began_s + result.duration_s, self._end, result)

    def _end(self, result: StepResult) -> None:
        self._stepping = False
        self._listener.step_ended(self, result)
        if not self.engine.has_work:
            return
        steps = 0 if self._joined else self._certain_steps(result)
        if steps > 1:
            self._sleep(result, steps)
        else:
            self._step()

    def _certain_steps(self, last: StepResult) -> int:
        """How many decode steps will follow that are like the last one."""
        running = len(last.emitted)
        if running != self.engine.running or last.computed_tokens != running * last.steps or last.preempted:
            return 0
        config = self.engine.config
        free_blocks = round((1.0 - self.engine.kv_usage) * config.usable_blocks)
        first_end = min(request.finish_total_tokens - request.total_tokens for request in last.emitted)
        return min(first_end, free_blocks // running * config.block_size_tokens)

    def _sleep(self, last: StepResult, steps: int) -> None:
        """Until ``steps`` steps have passed; each takes longer than the one before by what it has grown."""
        self._asleep_since_s = self._timeline.now
        self._sleeps += 1
        growth_ps = len(last.emitted) * self.engine.config.step_time.context_token_ps
        first_of_last_ps = (last.duration_ps - growth_ps * last.steps * (last.steps - 1) // 2) // last.steps
        next_ps = first_of_last_ps + last.steps * growth_ps
        duration_ps = steps * next_ps + growth_ps * steps * (steps - 1) // 2
        self._timeline.after(duration_ps / PS_PER_S, self._rise, self._sleeps, steps)

    def _rise(self, sleep: int, steps: int) -> None:
        """The planned end of a sleep, if nobody woke the replica before."""
        if self._asleep_since_s is not None and sleep == self._sleeps:
            since_s, self._asleep_since_s = self._asleep_since_s, None
            self._begin(self.engine.advance(since_s, max_steps=steps), since_s)

    def _catch_up(self) -> None:
        if self._asleep_since_s is not None:
            since_s, self._asleep_since_s = self._asleep_since_s, None
            self._begin(self.engine.advance(since_s, until_s=self._timeline.now), since_s)
