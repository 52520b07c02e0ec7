"""One request's life: read, route, ask a replica, ask another one if need be, end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from router.core.types import Outcome, Request, Ticket
from router.errors import ApiError
from router.proxy.attempt import Attempt, Ended
from router.proxy.heads import HttpRequest
from router.proxy.proxy import Proxy

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
        ended = Ended(Outcome.FAILED)
        try:
            if self._proxy.routed is not None:
                self._proxy.routed(ticket, self._request)
            attempt = self._attempt = Attempt(self._proxy, self._client, self._request, ticket)
            try:
                ended = await attempt.run()
            except asyncio.CancelledError:
                ended = attempt.ended or Ended(Outcome.CLIENT_GONE)
                raise
        finally:
            self._proxy.stats.tries[ended.outcome.value] += 1
            self._proxy.dispatcher.response_ended(ticket, ended.outcome, ended.usage)
        return ended


def _replica_of(ticket: Ticket) -> str:
    return "" if ticket.decision is None else ticket.decision.replica.name
