"""Drives the Router with a clock: every data plane asks here where a request goes, and waits here until it may go.

The Router decides and reads no clock; this shell gives it the time, polls it when something happened or when it wants
to be polled, and turns its refusals into the errors that clients see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from router.core.flow import ProgramKey
from router.core.router import Router
from router.core.types import Outcome, Refusal, RefusalReason, Request, Ticket, Usage
from router.errors import ApiError

FACT_DELAY_S = 0.005
"""Facts about replicas come by the hundred; who waits hears of them within this time."""

_OF_CLIENTS = frozenset(
    (RefusalReason.TENANT_QUEUE_FULL, RefusalReason.PROGRAM_BUDGET_EXCEEDED, RefusalReason.PROGRAM_LOOP)
)
"""What others need not wait for."""


class Dispatcher:
    """One per event loop. ``clock`` gives seconds and must be the one that feeds the Router everywhere.

    ``note`` hears how each request ended at its replica, for those who judge the replica's health by it.
    """

    def __init__(
        self, router: Router, clock: Callable[[], float], note: Callable[[str, Outcome], None] = lambda *_: None
    ) -> None:
        self._router = router
        self._clock = clock
        self._note = note
        self._waiters: dict[Ticket, asyncio.Future[None]] = {}
        self._drains = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = inf

    async def route(self, request: Request) -> Ticket:
        """Where ``request`` goes: a ticket with its decision. Raises ApiError when it goes nowhere.

        Waits while no replica has room. Cancelled, it takes the request back.
        """
        ticket = self.submit(request)
        if ticket.decision is None:
            await self.wait(ticket)
        return ticket

    def submit(self, request: Request) -> Ticket:
        """Takes ``request`` in. While the ticket has no decision somebody must ``wait`` for it. Raises ApiError."""
        ticket = self._router.submit(request, self._clock())
        self._poll()
        if ticket.refusal is not None:
            raise _api_error(ticket.refusal)
        return ticket

    async def wait(self, ticket: Ticket) -> None:
        """Until the ticket has its decision. Raises ApiError; cancelled, it takes the request back."""
        if ticket.decision is None:
            await self._wait(ticket)
        if ticket.refusal is not None:
            raise _api_error(ticket.refusal)

    def response_started(self, ticket: Ticket) -> None:
        """The first body byte came from the replica."""
        self._router.on_response_start(ticket, self._clock())
        if self._waiters:
            self._poll_within(0.0)

    def prefill_ended(self, leg: Ticket, outcome: Outcome, usage: Usage | None = None) -> None:
        """To be called once for each prefill leg whose end is seen: ``ticket.prefill`` of a ticket."""
        self._router.on_response_end(leg, usage, outcome, self._clock())
        if leg.decision is not None:
            self._note(leg.decision.replica.name, outcome)
        if self._waiters:
            self._poll_within(0.0)

    def prefill_elsewhere(self, ticket: Ticket) -> bool:
        """After a prefill leg that failed. False: the replica of the ticket's decision computes the prompt itself."""
        found = self._router.prefill_elsewhere(ticket, self._clock())
        if self._waiters:
            self._poll_within(0.0)
        return found

    def serve_whole(self, ticket: Ticket) -> None:
        """The replica of the ticket's decision computes the prompt itself after all."""
        self._router.serve_whole(ticket, self._clock())
        if self._waiters:
            self._poll_within(0.0)

    def response_ended(self, ticket: Ticket, outcome: Outcome, usage: Usage | None = None) -> None:
        """To be called exactly once for each ticket."""
        self._router.on_response_end(ticket, usage, outcome, self._clock())
        if ticket.decision is not None:
            self._note(ticket.decision.replica.name, outcome)
        if self._waiters:
            self._poll_within(0.0)

    def replicas_changed(self) -> None:
        """The Router was told something about a replica: there may be room now."""
        if self._waiters:
            self._poll_within(FACT_DELAY_S)

    def program_declared(self, program: ProgramKey) -> None:
        """Its client told what it will do: those of it who wait may have other places now."""
        self._router.room.reconsider(program)
        if self._waiters:
            self._poll_within(0.0)

    def drain(self) -> None:
        """Turns away who waits, and from now on whoever would have to."""
        self._drains = True
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(_shutting_down())

    def close(self) -> None:
        self._closed = True
        self.drain()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wait(self, ticket: Ticket) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[ticket] = waiter
        try:
            if self._drains:
                raise _shutting_down()
            self._set_timer()
            await waiter
        except BaseException:
            self._take_back(ticket)
            raise
        finally:
            del self._waiters[ticket]

    def _take_back(self, ticket: Ticket) -> None:
        """Nobody is there to send the request, which may have left in this very moment."""
        now = self._clock()
        if not self._router.withdraw(ticket, now) and ticket.decision is not None:
            self._router.on_response_end(ticket, None, Outcome.CLIENT_GONE, now)
        self._poll_within(0.0)

    def _poll(self) -> None:
        left = self._router.poll(self._clock())
        if self._waiters:
            for ticket in left:
                waiter = self._waiters.get(ticket)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
        if self._timer is None or self._waiters:
            self._set_timer()

    def _set_timer(self) -> None:
        wakeup_s = self._router.next_wakeup()
        if wakeup_s is not None:
            self._poll_within(max(wakeup_s - self._clock(), 0.001))

    def _poll_within(self, delay_s: float) -> None:
        """Makes sure that there is a poll within ``delay_s``; those who ask in one turn of the loop share it."""
        if self._closed:
            return
        due_s = self._clock() + delay_s
        if self._timer is not None:
            if self._timer_s <= due_s:
                return
            self._timer.cancel()
        self._timer_s = due_s
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._poll()


def _api_error(refusal: Refusal) -> ApiError:
    if refusal.reason is RefusalReason.UNKNOWN_MODEL:
        return ApiError(404, refusal.message, type="NotFoundError", param="model", code="model_not_found")
    if refusal.reason is RefusalReason.OWN_TRANSFER:
        param = "kv_transfer_params"
        return ApiError(400, refusal.message, type="invalid_request_error", param=param, code=str(refusal.reason))
    is_clients = refusal.reason in _OF_CLIENTS
    return ApiError(
        429 if is_clients else 503,
        refusal.message,
        type="rate_limit_error" if is_clients else "service_unavailable",
        code=str(refusal.reason),
        retry_after_s=refusal.retry_after_s,
    )


def _shutting_down() -> ApiError:
    message = "The router is shutting down; retry, and another one will take the request."
    return ApiError(503, message, type="service_unavailable", code="shutting_down")
