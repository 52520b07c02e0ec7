"""One production router and the shell that drives it through virtual time."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import thread_time_ns

from router.core.index.batch import KvBatch
from router.core.router import Router
from router.core.types import Health, IndexState, LoadReport, Outcome, RefusalReason, ReplicaSpec, Ticket, Usage
from sim.cluster.call import Call
from sim.cluster.record import RouterCost
from sim.cluster.timeline import Timeline

_SOONEST_S = 1e-3
"""A wake-up that is due at once comes after this, so that rounding cannot stop the clock."""


class Gateway:
    """Submits, polls, and hands every decided call to ``dispatch``."""

    def __init__(self, router: Router, timeline: Timeline, dispatch: Callable[[Call, Ticket], None]) -> None:
        self.cost = RouterCost()
        self._router = router
        self._timeline = timeline
        self._dispatch = dispatch
        self._calls: dict[Ticket, Call] = {}
        """Those that the router has not decided yet."""
        self._alarm_s = inf

    def add_replica(self, spec: ReplicaSpec) -> None:
        now = self._timeline.now
        self._router.on_replica(spec, now)
        self._router.on_health(spec.name, Health.HEALTHY, now)
        self._router.on_index_state(spec.name, IndexState.SYNCED if spec.reports_events else IndexState.NONE, now)

    def submit(self, call: Call) -> None:
        began_ns = thread_time_ns()
        call.ticket = self._router.submit(call.request, self._timeline.now)
        self._calls[call.ticket] = call
        leaving = self._router.poll(self._timeline.now)
        self.cost.cpu_ns += thread_time_ns() - began_ns
        self.cost.decisions += 1
        self._let_go(leaving)

    def prefill_ended(self, call: Call) -> None:
        """Another replica has computed the prompt for the one that is to answer."""
        leg = _ticket(call).prefill
        if leg is not None and call.prefill is not None:
            work = call.prefill.work
            usage = Usage(work.prompt_tokens, work.cached_tokens, work.output_tokens)
            self._router.on_response_end(leg, usage, Outcome.OK, self._timeline.now)
            self._poll_for_waiting()

    def response_started(self, call: Call) -> None:
        self._router.on_response_start(_ticket(call), self._timeline.now)
        self._poll_for_waiting()

    def response_ended(self, call: Call) -> None:
        work = call.work
        usage = Usage(work.prompt_tokens, work.cached_tokens, work.output_tokens)
        self._router.on_response_end(_ticket(call), usage, Outcome.OK, self._timeline.now)
        self._poll_for_waiting()

    def on_load(self, name: str, report: LoadReport) -> None:
        self._router.on_load(name, report, self._timeline.now)
        self._poll_for_waiting()

    def on_kv_events(self, name: str, batch: KvBatch) -> None:
        self._router.on_kv_events(name, batch, self._timeline.now)

    def degrade(self, name: str) -> None:
        """KV events of this replica are lost for good."""
        self._router.on_index_state(name, IndexState.DEGRADED, self._timeline.now)

    def _poll_for_waiting(self) -> None:
        """There may be room now for what waits. When nothing does, the next submission or alarm is soon enough."""
        if self._router.waiting:
            self._poll()

    def _poll(self) -> None:
        self._let_go(self._router.poll(self._timeline.now))

    def _let_go(self, leaving: list[Ticket]) -> None:
        for ticket in leaving:
            call = self._calls.pop(ticket)
            if ticket.decision is not None:
                self._dispatch(call, ticket)
            else:
                self._refused(call, ticket)
        self._set_alarm()

    def _refused(self, call: Call, ticket: Ticket) -> None:
        """The client comes back when it was told to."""
        refusal = ticket.refusal
        if refusal is None or refusal.reason is RefusalReason.UNKNOWN_MODEL:
            raise ValueError(f"call {call.request.id} cannot be routed: {refusal}")
        call.record.refusals += 1
        self._timeline.after(refusal.retry_after_s or 1.0, self.submit, call)

    def _set_alarm(self) -> None:
        wakeup_s = self._router.next_wakeup()
        if wakeup_s is not None and wakeup_s < self._alarm_s:
            self._alarm_s = max(wakeup_s, self._timeline.now + _SOONEST_S)
            self._timeline.at(self._alarm_s, self._wake, self._alarm_s)

    def _wake(self, alarm_s: float) -> None:
        if alarm_s == self._alarm_s:
            self._alarm_s = inf
            self._poll()


def _ticket(call: Call) -> Ticket:
    if call.ticket is None:
        raise LookupError(f"call {call.request.id} was not submitted")
    return call.ticket
