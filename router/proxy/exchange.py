"""One request's life: read, route, ask a replica, ask another one if need be, end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from router.core.types import Outcome, Request, Ticket
from router.errors import ApiError
from router.proxy.attempt import Attempt
from router.proxy.ended import Ended
from router.proxy.handed_over import HandedOver
from router.proxy.heads import HttpRequest
from router.proxy.proxy import Proxy
from router.proxy.two_legs import TwoLegs

if TYPE_CHECKING:
    from router.proxy.server import ClientConnection

_log = logging.getLogger(__name__)


class Exchange:
    """A request for a replica, from its last byte to the last byte of its answer, as one asyncio task."""

    __slots__ = ("_attempt", "_client", "_proxy", "_request", "_task")

    def __init__(self, proxy: Proxy, client: ClientConnection, request: HttpRequest) -> None:
        self._proxy = proxy
        self._client = client
        self._request = request
        self._attempt: Attempt | None = None
        self._task = client.loop.create_task(self._run())

    def client_gone(self) -> None:
        """Stop whatever goes on for this request, unless its answer is complete: then it counts as that."""
        attempt = self._attempt
        if attempt is not None:
            if attempt.ended is not None and attempt.ended.error is None:
                return
            attempt.drop_connection()
        self._task.cancel()

    def pause(self) -> None:
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        if self._attempt is not None:
            self._attempt.resume()

    async def _run(self) -> None:
        stats = self._proxy.stats
        stats.requests_in_flight += 1
        try:
            ended = await self._serve()
            self._client.answer_ended(ended.cut_off)
        except ApiError as error:
            self._client.refuse(error, self._request.request_id)
        except asyncio.CancelledError:
            stats.clients_gone += 1
            raise
        except Exception:
            # Intake, dispatcher and the scorers behind it may be anyone's code: a fault there must cost this request,
            # not leave its client waiting for ever.
            stats.internal_errors += 1
            _log.exception("request %s was lost", self._request.request_id.decode("latin-1"))
            if self._attempt is not None and self._attempt.has_begun:
                self._client.answer_ended(cut_off=True)
            else:
                self._client.refuse(ApiError(500, "Internal error of the router.", type="server_error"))
        finally:
            stats.requests_in_flight -= 1

    async def _serve(self) -> Ended:
        """The try that the client saw. Raises ApiError when it has seen nothing yet and none is left to make."""
        proxy = self._proxy
        proxy.budget.deposit()
        request = await self._read()
        error: ApiError | None = None
        tries = 0
        while True:
            try:
                ticket = await proxy.dispatcher.route(request)
            except ApiError as refused:
                raise error or refused from None
            ended = await self._try(ticket)
            if ended.error is None:
                return ended
            error = ended.error
            _log.info("request %s: %s: %s", request.id, _replica_of(ticket), error.message)
            tries += 1
            if tries >= proxy.limits.max_tries:
                raise error
            if not proxy.budget.withdraw():
                proxy.stats.retries_denied += 1
                raise error
            proxy.stats.retries += 1
            request = replace(request, excluded=request.excluded | {_replica_of(ticket)})

    async def _read(self) -> Request:
        request = self._request
        read = self._proxy.intake.read(request.path, request.headers, request.body if request.is_json else b"")
        return read if isinstance(read, Request) else await read

    async def _try(self, ticket: Ticket) -> Ended:
        self._attempt = None
        ended = Ended(Outcome.FAILED)
        try:
            if self._proxy.routed is not None:
                self._proxy.routed(ticket, self._request)
            ended = await (self._attempt_at(ticket).run() if ticket.prefill is None else self._in_two_legs(ticket))
        except asyncio.CancelledError:
            ended = (self._attempt and self._attempt.ended) or Ended(Outcome.CLIENT_GONE)
            raise
        finally:
            self._proxy.stats.tries[ended.outcome.value] += 1
            self._proxy.dispatcher.response_ended(ticket, ended.outcome, ended.usage)
        return ended

    def _attempt_at(self, ticket: Ticket, handed: HandedOver | None = None) -> Attempt:
        attempt = self._attempt = Attempt(self._proxy, self._client, self._request, ticket, handed)
        return attempt

    async def _in_two_legs(self, ticket: Ticket) -> Ended:
        proxy = self._proxy
        if proxy.connector is None:
            proxy.dispatcher.serve_whole(ticket)
            return await self._attempt_at(ticket).run()
        make_attempt = partial(self._attempt_at, ticket)
        return await TwoLegs(proxy, proxy.connector, self._request, ticket, make_attempt).run()


def _replica_of(ticket: Ticket) -> str:
    return "" if ticket.decision is None else ticket.decision.replica.name
