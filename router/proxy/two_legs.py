"""One try at a request whose prompt another replica computes: the prefill leg, what it leaves, and the decode leg.

Whatever goes wrong before the client has seen something, the decode replica can still be asked to do it all, where its
engine can; another prefill replica comes first, as long as the dispatcher names one. KV blocks that were asked for are
never asked for again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from router.core.types import Outcome, Ticket, Usage
from router.engine.kv_transfer.connector import Connector, HandOverError, Legs
from router.proxy.attempt import Attempt
from router.proxy.ended import Ended
from router.proxy.first_look import overloaded
from router.proxy.handed_over import HandedOver
from router.proxy.heads import HttpRequest
from router.proxy.prefill_leg import LegFailedError, Prefilled, look_up, run_prefill_leg
from router.proxy.proxy import Proxy

_log = logging.getLogger(__name__)

MakeAttempt = Callable[[HandedOver | None], Attempt]


class Whole(StrEnum):
    """Why a decode replica served a request alone that had a prefill leg."""

    ONE_PIECE = "one_piece"
    """The request cannot be split."""
    PREFILL_FAILED = "prefill_failed"
    PREFILL_REFUSED = "prefill_refused"
    """With an error about the request, which the decode replica may not see in it."""
    NOTHING_HANDED_OVER = "nothing_handed_over"
    """The prefill replica answered, but not with what the decode replica needs."""
    DECODE_FAILED = "decode_failed"
    """The decode replica could not go on from what was handed over."""


class TwoLegs:
    """Belongs to one ticket. ``make_attempt`` makes tries at its decode replica."""

    __slots__ = ("_connector", "_make_attempt", "_open", "_proxy", "_request", "_ticket")

    def __init__(
        self, proxy: Proxy, connector: Connector, request: HttpRequest, ticket: Ticket, make_attempt: MakeAttempt
    ) -> None:
        self._proxy = proxy
        self._connector = connector
        self._request = request
        self._ticket = ticket
        self._make_attempt = make_attempt
        self._open: Ticket | None = None
        """The prefill leg that is under way."""

    async def run(self) -> Ended:
        if not self._connector.serves(self._request.path):
            self._serve_whole(Whole.ONE_PIECE, f"{self._request.path} has no legs")
        return await (self._side_by_side() if self._connector.at_once else self._one_by_one())

    async def _one_by_one(self) -> Ended:
        while (leg := self._ticket.prefill) is not None:
            legs = self._legs(leg)
            try:
                handed = await self._hand_over(leg, legs)
            except LegFailedError as failure:
                self._try_elsewhere(failure)
            else:
                if handed is not None:
                    return await self._decode(legs, handed)
        return await self._make_attempt(None).run()

    async def _hand_over(self, leg: Ticket, legs: Legs) -> HandedOver | None:
        """None: the decode replica must do it alone. Raises LegFailedError."""
        connector, body = self._connector, self._request.body
        try:
            prefill_body = connector.prefill_body(body, legs)
        except HandOverError as error:
            self._serve_whole(Whole.ONE_PIECE, error)
            return None
        prefilled = await self._prefill(leg, legs, prefill_body)
        try:
            decode_body = connector.decode_body(body, legs, prefilled.answer)
        except HandOverError as error:
            self._serve_whole(Whole.NOTHING_HANDED_OVER, error)
            return None
        cached_tokens = None if prefilled.usage is None else prefilled.usage.cached_tokens
        return HandedOver(decode_body, cached_tokens, only_once=connector.leases)

    async def _decode(self, legs: Legs, handed: HandedOver) -> Ended:
        try:
            ended = await self._make_attempt(handed).run()
        finally:
            self._proxy.stats.stranded += handed.only_once and handed.is_stranded
        if ended.error is None or not ended.whole_might_do:
            return _of_decode_leg(ended)
        if self._connector.directory is not None:
            self._connector.directory.forget(legs.prefill)
        self._serve_whole(Whole.DECODE_FAILED, ended.error.message)
        return await self._make_attempt(None).run()

    async def _side_by_side(self) -> Ended:
        while (leg := self._ticket.prefill) is not None:
            legs, body = self._legs(leg), self._request.body
            try:
                bodies = self._connector.prefill_body(body, legs), self._connector.decode_body(body, legs, b"")
            except HandOverError as error:
                self._serve_whole(Whole.ONE_PIECE, error)
                break
            ended, failure = await self._both(leg, legs, *bodies)
            if failure is None:
                return ended
            if not self._try_elsewhere(failure) and not self._connector.aggregates:
                return Ended(Outcome.REJECTED, error=overloaded(f"its prompt could not be computed: {failure}."))
        return await self._make_attempt(None).run()

    async def _both(
        self, leg: Ticket, legs: Legs, prefill_body: bytes, decode_body: bytes
    ) -> tuple[Ended, LegFailedError | None]:
        """How the try at the decode replica ended, and the failure of the prefill leg if that is why."""
        attempt = self._make_attempt(HandedOver(decode_body))
        failure: LegFailedError | None = None

        def prefill_over(task: asyncio.Task[Prefilled]) -> None:
            nonlocal failure
            error = None if task.cancelled() else task.exception()
            if error is None or not attempt.is_waiting:
                return
            if not isinstance(error, LegFailedError):
                _log.error("request %s: the prefill leg was lost", legs.request_id, exc_info=error)
                attempt.give_up()
            elif not error.is_final:
                failure = error
                attempt.give_up()

        prefill = asyncio.get_running_loop().create_task(self._prefill(leg, legs, prefill_body))
        prefill.add_done_callback(prefill_over)
        self._open = leg
        try:
            ended = await attempt.run()
            if ended.outcome is Outcome.OK:
                self._leg_ended(leg, Outcome.OK)
        finally:
            self._leg_ended(leg, Outcome.CLIENT_GONE)
            prefill.cancel()
        return _of_decode_leg(ended), failure

    async def _prefill(self, leg: Ticket, legs: Legs, body: bytes) -> Prefilled:
        """Raises LegFailedError."""
        self._open = leg
        try:
            await look_up(self._proxy, self._connector.directory, legs.prefill)
            prefilled = await run_prefill_leg(self._proxy, self._request, leg, body)
        except LegFailedError as failure:
            self._leg_ended(leg, failure.outcome)
            raise
        except asyncio.CancelledError:
            self._leg_ended(leg, Outcome.CLIENT_GONE)
            raise
        self._leg_ended(leg, Outcome.OK, prefilled.usage)
        return prefilled

    def _leg_ended(self, leg: Ticket, outcome: Outcome, usage: Usage | None = None) -> None:
        """The first to say so is heard."""
        if self._open is leg:
            self._open = None
            self._proxy.stats.prefill_legs[outcome.value] += 1
            self._proxy.dispatcher.prefill_ended(leg, outcome, usage)

    def _try_elsewhere(self, failure: LegFailedError) -> bool:
        """Whether the ticket has another prefill leg."""
        if failure.is_final:
            self._serve_whole(Whole.PREFILL_REFUSED, failure)
            return False
        _log.info("request %s: prefill: %s", self._ticket.request.id, failure)
        found = self._proxy.dispatcher.prefill_elsewhere(self._ticket)
        if not found:
            self._proxy.stats.served_whole[Whole.PREFILL_FAILED] += 1
        return found

    def _serve_whole(self, why: Whole, reason: object) -> None:
        _log.info("request %s: %s: %s", self._ticket.request.id, why, reason)
        self._proxy.stats.served_whole[why] += 1
        self._proxy.dispatcher.serve_whole(self._ticket)

    def _legs(self, leg: Ticket) -> Legs:
        if leg.decision is None or self._ticket.decision is None:
            raise ValueError("legs that were routed have decisions")
        return Legs(
            self._request.path,
            self._ticket.request.id,
            self._proxy.fresh_request_id().decode(),
            leg.decision.replica,
            self._ticket.decision.replica,
        )


def _of_decode_leg(ended: Ended) -> Ended:
    """What its replica calls cached is what another one had: it says nothing of this one's cache."""
    if ended.usage is None:
        return ended
    return replace(ended, usage=replace(ended.usage, cached_tokens=None))
