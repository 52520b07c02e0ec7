"""Drives the Router with a clock: every data plane asks here where a request goes.

The Router decides and reads no clock; this shell gives it the time, polls it when it wants to be polled, and turns its
refusals into the errors that clients see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.core.router import Router
from router.core.types import Outcome, Refusal, RefusalReason, Request, Ticket, Usage
from router.errors import ApiError


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
        self._timer: asyncio.TimerHandle | None = None

    async def route(self, request: Request) -> Ticket:
        """Where ``request`` goes: a ticket with its decision. Raises ApiError when it goes nowhere."""
        ticket = self._router.submit(request, self._clock())
        self._pump()
        if ticket.refusal is not None:
            raise _api_error(ticket.refusal)
        return ticket

    def response_started(self, ticket: Ticket) -> None:
        """The first body byte came from the replica."""
        self._router.on_response_start(ticket, self._clock())

    def response_ended(self, ticket: Ticket, outcome: Outcome, usage: Usage | None = None) -> None:
        """To be called exactly once for each ticket."""
        self._router.on_response_end(ticket, usage, outcome, self._clock())
        if ticket.decision is not None:
            self._note(ticket.decision.replica.name, outcome)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pump(self) -> None:
        self._router.poll(self._clock())
        if self._timer is None:
            self._set_timer()

    def _set_timer(self) -> None:
        wakeup_s = self._router.next_wakeup()
        if wakeup_s is not None:
            delay_s = max(wakeup_s - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()


def _api_error(refusal: Refusal) -> ApiError:
    if refusal.reason is RefusalReason.UNKNOWN_MODEL:
        return ApiError(404, refusal.message, type="NotFoundError", param="model", code="model_not_found")
    return ApiError(
        503,
        refusal.message,
        type="service_unavailable",
        code=str(refusal.reason),
        retry_after_s=refusal.retry_after_s,
    )
