"""One try at one replica, from the connection to the last byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from router.core.types import Outcome, Ticket
from router.errors import ApiError
from router.proxy.answer import Answer
from router.proxy.corrected_answer import CorrectedAnswer
from router.proxy.deadlines import NEVER
from router.proxy.ended import Ended, unreachable
from router.proxy.first_look import Look, Refused, Undecided, look_at
from router.proxy.handed_over import HandedOver
from router.proxy.headers import own_lines, upstream_head
from router.proxy.heads import HttpRequest, ResponseHead
from router.proxy.proxy import Proxy
from router.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from router.proxy.server import ClientConnection


class _StaleConnectionError(Exception):
    """A kept connection died before it answered."""


class _PriorityRefusedError(Exception):
    """The replica would have answered without a priority."""


class Attempt:
    """The sink of one upstream connection. Holds an answer back until it is one, then hands it through."""

    __slots__ = (
        "_answer",
        "_asked_again",
        "_client",
        "_connection",
        "_decision",
        "_handed",
        "_head",
        "_held",
        "_hold_bytes",
        "_idle_s",
        "_look",
        "_loop",
        "_over",
        "_payload",
        "_priority",
        "_proxy",
        "_request",
        "_ticket",
        "deadline_s",
        "ended",
    )

    _head: ResponseHead

    def __init__(
        self,
        proxy: Proxy,
        client: ClientConnection,
        request: HttpRequest,
        ticket: Ticket,
        handed: HandedOver | None = None,
    ) -> None:
        if ticket.decision is None:
            raise ValueError("a ticket that was routed has a decision")
        self._proxy = proxy
        self._client = client
        self._request = request
        self._ticket = ticket
        self._handed = handed
        self._decision = ticket.decision
        self._priority = proxy.priorities.of(ticket.request, ticket.decision)
        self._asked_again = False
        """The replica did not want a priority, and is asked without."""
        self._connection: UpstreamConnection | None = None
        self._look: Look | None = None
        self._held = bytearray()
        """The body as it came, until it is known to be an answer."""
        self._hold_bytes = proxy.limits.hold_bytes
        self._payload: bytearray | None = None
        """The body without framing, while that is needed as well."""
        self._answer: Answer | CorrectedAnswer | None = None
        """Set from the moment that the client sees something of it."""
        self._loop = client.loop
        self._idle_s = proxy.limits.stream_idle_timeout_s
        self._over: asyncio.Future[Ended] = self._loop.create_future()
        self.ended: Ended | None = None
        self.deadline_s = NEVER

    @property
    def has_begun(self) -> bool:
        """Whether the client has seen something of the answer."""
        return self._answer is not None

    @property
    def is_waiting(self) -> bool:
        """Whether the replica may still answer, and has not begun to."""
        return self._answer is None and self.ended is None

    async def run(self) -> Ended:
        """Ask the replica, once more where it takes no priorities."""
        self._proxy.deadlines.add(self)
        try:
            try:
                return await self._connect_and_ask()
            except _PriorityRefusedError:
                if self._handed is not None and self._handed.only_once:
                    return self._refused_blocks(self._handed, "takes no priorities")
                self._priority = 0
                self._asked_again = True
                return await self._connect_and_ask()
        except TimeoutError:
            return Ended(Outcome.TIMEOUT, error=unreachable(504, "did not accept a connection in time"))
        except (OSError, ValueError) as error:
            return Ended(Outcome.FAILED, error=unreachable(502, f"cannot be reached ({error})"))
        finally:
            self._proxy.deadlines.discard(self)
            self.drop_connection()

    def drop_connection(self) -> None:
        """Nobody waits for the answer any more: close, so that the replica stops computing it."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def give_up(self) -> None:
        """Nothing can come of it any more. To be called only while it waits."""
        self._finish(Ended(Outcome.REJECTED, error=unreachable(502, "waits for what will not come")))

    def pause(self) -> None:
        """The client does not keep up."""
        if self._connection is not None and self._answer is not None:
            self._connection.pause_reading()
            self.deadline_s = self._loop.time() + self._proxy.limits.client_stall_s

    def resume(self) -> None:
        if self._connection is not None and self._answer is not None:
            self._connection.resume_reading()
            self.deadline_s = self._loop.time() + self._idle_s

    # The upstream connection calls these.

    def head_received(self, head: ResponseHead) -> None:
        self._head = head
        if self._asked_again and head.status == 200:
            self._proxy.stats.priorities_refused += 1
            self._proxy.priorities.refused_by(self._decision.replica.name)
        if self._handed is not None and self._handed.cached_tokens is not None:
            self._hold_bytes = self._proxy.limits.prefill_answer_bytes
        self._look = look_at(head, self._hold_bytes, self._priority)
        if self._look is None:
            self._begin()
        else:
            self._collect_payload(True)

    def body_received(self, data: bytes, ended: bool) -> None:
        self.deadline_s = self._loop.time() + self._idle_s
        if ended:
            self._connection = None
        if self._answer is None:
            self._held += data
            self._look_at_held(ended)
        else:
            self._answer.pass_on(data if self._payload is None else self._take_payload())
        if ended and self._answer is not None:
            self._finish(Ended(*self._answer.end()))

    def upstream_failed(self, reason: str, stale: bool) -> None:
        if stale:
            self._connection = None
            self.deadline_s = NEVER
            self._over.set_exception(_StaleConnectionError())
        elif self._answer is None:
            self._gave_no_answer(Ended(Outcome.FAILED, error=unreachable(502, f"gave no answer ({reason})")))
        else:
            error = unreachable(502, f"failed in the middle of its answer ({reason})")
            self._break_off(self._answer, Outcome.FAILED, error)

    def deadline_passed(self) -> None:
        if self._answer is None:
            self._gave_no_answer(Ended(Outcome.TIMEOUT, error=unreachable(504, "did not answer in time")))
        elif self._client.is_write_paused:
            self._proxy.stats.clients_stalled += 1
            self._client.reset()
        else:
            self._break_off(self._answer, Outcome.TIMEOUT, unreachable(504, "stopped in the middle of its answer"))

    async def _connect_and_ask(self) -> Ended:
        """Ask on a kept connection, and on a new one where that turns out to be dead."""
        replica = self._decision.replica
        pool = self._proxy.pools.of(replica.url)
        body = self._request.body if self._handed is None else self._handed.body
        head = upstream_head(self._request, pool.origin, replica.rank, self._priority, len(body))
        if (connection := pool.take()) is not None:
            try:
                return await self._ask(connection, head, body)
            except _StaleConnectionError:
                self._proxy.stats.stale_connections += 1
                if self._handed is not None and self._handed.only_once:
                    return self._refused_blocks(self._handed, "closed a kept connection")
                self._over = self._loop.create_future()
        return await self._ask(await pool.connect(), head, body)

    async def _ask(self, connection: UpstreamConnection, head: bytes, body: bytes) -> Ended:
        if self.ended is not None:
            self._connection = None
            connection.abort()
            return self.ended
        self._connection = connection
        self.deadline_s = self._loop.time() + self._proxy.limits.first_byte_timeout_s
        connection.send(head, body, self)
        if self._handed is not None:
            self._handed.is_stranded = False
        return await self._over

    def _look_at_held(self, ended: bool) -> None:
        if self._look is None or self._payload is None:
            return
        final = ended or len(self._held) > self._hold_bytes
        verdict = self._look.judge(self._payload, final)
        if isinstance(verdict, Refused):
            about_blocks = self._handed is not None and self._handed.only_once and verdict.outcome is Outcome.FAILED
            self._finish(Ended(verdict.outcome, error=verdict.error, whole_might_do=about_blocks))
        elif verdict is Undecided.PASS:
            self._begin(ended)
        elif verdict is Undecided.AGAIN:
            self._forget_answer()

    def _begin(self, complete: bool = False) -> None:
        """From here on the answer is the client's, and no other replica can be asked. ``complete``: all of it came."""
        answer = self._make_answer(complete)
        own = own_lines(self._request.request_id, self._decision, self._ticket.prefill)
        self._collect_payload(answer.is_dechunked)
        answer.begin(own, self._take_payload() if answer.is_dechunked else bytes(self._held))
        self._answer = answer
        self._held = bytearray()
        self._request.body = b""
        if self._handed is not None:
            self._handed.body = b""
        self._proxy.stats.answers[self._head.status] += 1
        self._proxy.dispatcher.response_started(self._ticket)
        if self._client.is_write_paused:
            self.pause()

    def _make_answer(self, complete: bool) -> Answer | CorrectedAnswer:
        handed, head = self._handed, self._head
        if handed is None or handed.cached_tokens is None or head.status != 200:
            return Answer(self._client, self._request, head)
        return CorrectedAnswer(self._client, self._request, head, handed.cached_tokens, complete)

    def _forget_answer(self) -> None:
        """The client has seen nothing of it; the replica is asked again."""
        self.deadline_s = NEVER
        self.drop_connection()
        self._look = self._payload = None
        self._held.clear()
        over, self._over = self._over, self._loop.create_future()
        over.set_exception(_PriorityRefusedError())

    def _collect_payload(self, wanted: bool) -> None:
        if not wanted:
            self._payload = None
        elif self._payload is None:
            self._payload = bytearray()
        if self._connection is not None:
            self._connection.payload = self._payload

    def _take_payload(self) -> bytes:
        if self._payload is None:
            return b""
        taken = bytes(self._payload)
        self._payload.clear()
        return taken

    def _break_off(self, answer: Answer | CorrectedAnswer, outcome: Outcome, error: ApiError) -> None:
        self._proxy.stats.broken_off += 1
        framing = None if self._connection is None else self._connection.framing
        self._finish(Ended(outcome, cut_off=not answer.break_off(framing, error)))

    def _gave_no_answer(self, ended: Ended) -> None:
        if self._handed is not None:
            self._handed.is_stranded = True
        self._finish(ended)

    def _refused_blocks(self, handed: HandedOver, why: str) -> Ended:
        handed.is_stranded = True
        return Ended(Outcome.FAILED, error=unreachable(502, why), whole_might_do=True)

    def _finish(self, ended: Ended) -> None:
        self.deadline_s = NEVER
        self.drop_connection()
        self.ended = ended
        if not self._over.done():
            self._over.set_result(ended)
