"""Sends warm-ups: keeps what calls were sent with, asks when one is due, and carries it out.

A warm-up is its client's own call once more, with the client's own key: a replica sees nobody's prompt under another
name. It goes straight to the replica, and its answer is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import aiohttp

from flow.warm_ups.warm_up import WarmUp
from flow.warm_ups.warm_ups import WarmUps
from router.core.types import Outcome, Ticket, Usage
from router.proxy.heads import HttpRequest
from router.proxy.proxy import Proxy
from router.proxy.usage import find_usage
from router.warm_up_body import can_be_repeated, with_one_token

_LONGEST_S = 120.0

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Original:
    """Of a call, what it takes to send it again."""

    path: str
    authorization: str | None
    body: bytes


class Warming:
    """Must be made inside the event loop that runs it. ``clock`` is the one that feeds the router."""

    def __init__(
        self,
        warm_ups: WarmUps,
        proxy: Proxy,
        clock: Callable[[], float],
        freed: Callable[[], None],
    ) -> None:
        """``freed`` is called when a replica has one request less."""
        self._warm_ups = warm_ups
        self._proxy = proxy
        self._clock = clock
        self._freed = freed
        connector = aiohttp.TCPConnector(force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        self._tasks: dict[WarmUp, asyncio.Task[Usage | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def keep(self, ticket: Ticket, request: HttpRequest) -> None:
        """A request is about to be sent to its replica."""
        if can_be_repeated(request.path) and request.body:
            said = next((value for name, value in request.headers if name == b"authorization"), None)
            authorization = None if said is None else said.decode("latin-1")
            self._warm_ups.keep(ticket, Original(request.path, authorization, request.body), len(request.body))
        self.look()

    def look(self) -> None:
        """Something happened: carries out what is due now, and sets the clock for what is due later."""
        if self._closed:
            return
        orders = self._warm_ups.poll(self._clock())
        for warm_up in orders.stop:
            self._tasks[warm_up].cancel()
        for warm_up in orders.send:
            task = self._tasks[warm_up] = asyncio.get_running_loop().create_task(self._send(warm_up))
            task.add_done_callback(partial(self._over, warm_up))
        self._set_timer()

    async def close(self) -> None:
        """Stops all warm-ups; no more are sent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._session.close()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakeup_s = self._warm_ups.next_wakeup()
        if wakeup_s is not None:
            delay_s = max(wakeup_s - self._clock(), 0.001)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.look)

    async def _send(self, warm_up: WarmUp) -> Usage | None:
        """What the replica says that it cost. Raises OSError, ValueError or aiohttp.ClientError."""
        original = warm_up.payload
        if not isinstance(original, Original):
            raise TypeError(f"{original!r} was not kept by this shell")
        body = with_one_token(original.path, original.body)
        url = warm_up.decision.replica.url.rstrip("/") + original.path
        tls = self._proxy.pools.tls if url.startswith("https:") else True
        timeout = aiohttp.ClientTimeout(total=_LONGEST_S)
        asked = self._session.post(
            url, data=body, headers=self._headers(warm_up, original), ssl=tls, timeout=timeout, allow_redirects=False
        )
        async with asked as answer:
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            return find_usage(await answer.read())

    def _headers(self, warm_up: WarmUp, original: Original) -> dict[str, str]:
        decision = warm_up.decision
        request_id = self._proxy.fresh_request_id().decode("ascii")
        headers = {"content-type": "application/json", "x-request-id": request_id}
        if original.authorization is not None:
            headers["authorization"] = original.authorization
        if decision.replica.rank is not None:
            headers["x-data-parallel-rank"] = str(decision.replica.rank)
        priority = self._proxy.priorities.of(warm_up.ticket.request, decision)
        if priority is not None:
            headers["x-vllm-priority"] = str(priority)
        return headers

    def _over(self, warm_up: WarmUp, task: asyncio.Task[Usage | None]) -> None:
        del self._tasks[warm_up]
        usage, outcome = None, Outcome.CLIENT_GONE
        if not task.cancelled():
            error = task.exception()
            outcome = Outcome.OK if error is None else Outcome.FAILED
            if error is None:
                usage = task.result()
            else:
                _log.info("a warm-up at %s failed: %s", warm_up.decision.replica.name, error)
        self._warm_ups.over(warm_up, usage, outcome, self._clock())
        self._freed()
