"""One stream of Envoy's, from its first message to its end: reads, routes, answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import grpc

from router.core.types import Outcome
from router.errors import ApiError
from router.extproc import wire
from router.extproc.ends import Ends
from router.extproc.messages import Message, Modes, ProtocolError
from router.extproc.outstanding import Sent
from router.extproc.picker import Picked, Picker
from router.extproc.refusals import as_picker
from router.extproc.stats import ExtProcStats
from router.extproc.stream import Answering, Event, Route, Sign, State, Stream
from router.proxy.headers import replica_value

_log = logging.getLogger("weft.extproc")


@dataclass(slots=True, frozen=True)
class StreamSettings:
    max_body_bytes: int = 64 << 20
    modes: Modes = field(default_factory=Modes)
    """For gateways that do not say theirs."""
    follows: bool = False
    """Let answers come by, rather than only those that are to be told something."""
    tells_served: bool = False
    """Tell in each answer which endpoint the gateway says it used."""


@dataclass(slots=True, frozen=True)
class Shared:
    """What all streams share."""

    picker: Picker
    ends: Ends
    stats: ExtProcStats
    settings: StreamSettings


class Processing:
    """``run`` is the life of one gRPC stream. Ends with a status that says what was wrong, never with a traceback."""

    __slots__ = ("_context", "_last", "_reading", "_request_id", "_sent", "_shared", "_status", "_stream")

    def __init__(self, shared: Shared, context: Any) -> None:
        self._shared = shared
        self._context = context
        settings = shared.settings
        self._stream = Stream(settings.max_body_bytes, settings.modes, settings.follows, settings.tells_served)
        self._reading: asyncio.Task[Any] | None = None
        """A read that was begun while the request was held."""
        self._request_id = b""
        self._sent: Sent | None = None
        self._status = 0
        self._last = b""

    async def run(self) -> bytes:
        """Returns the last answer, which gRPC sends together with the end of the stream. Where the gateway has closed
        the stream before, it is empty, and nobody reads it."""
        stats = self._shared.stats
        stats.streams += 1
        stats.streams_open += 1
        wrong = ""
        try:
            await self._converse()
        except ProtocolError as error:
            stats.malformed["ext_proc"] += 1
            wrong = str(error)
        except (asyncio.CancelledError, grpc.aio.BaseError):
            # The gateway has gone, or has closed the stream while something was being written.
            pass
        finally:
            stats.streams_open -= 1
            stats.gone += not wrong and self._stream.state in (State.BODY, State.ROUTING)
            if self._reading is not None:
                self._reading.cancel()
        if wrong:
            await self._context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
        return self._last

    async def _converse(self) -> None:
        while self._stream.state is not State.OVER:
            data = await self._read()
            if data is grpc.aio.EOF:
                return
            await self._take(wire.decode(data))

    async def _read(self) -> Any:
        if self._reading is None:
            return await self._context.read()
        reading, self._reading = self._reading, None
        return await reading

    async def _take(self, message: Message) -> None:
        try:
            for event in self._stream.receive(message):
                await self._do(event)
        except ApiError as error:
            await self._refuse(error)
        except (ProtocolError, grpc.aio.BaseError):
            raise
        except Exception:
            # Intake, dispatcher and the scorers behind it may be anyone's code: a fault there costs this request.
            self._shared.stats.internal_errors += 1
            _log.exception("request %s was lost", self._request_id.decode("latin-1"))
            await self._refuse(ApiError(500, "Internal error of the router.", type="server_error"))

    async def _do(self, event: Event) -> None:
        if isinstance(event, bytes):
            await self._answer(event)
        elif isinstance(event, Route):
            await self._route(event)
        elif isinstance(event, Answering):
            self._answering(event)
        elif event is Sign.GIVEN_UP:
            self._shared.stats.gone += 1
        elif self._sent is not None:
            self._progress(self._sent, event)

    async def _route(self, route: Route) -> None:
        picker = self._shared.picker
        self._request_id = picker.request_id(route.headers)
        picked = picker.pick(route, self._request_id)
        if not isinstance(picked, Picked):
            held = await self._hold(picked)
            if held is None:
                return
            picked = held
        await self._send(picked)

    async def _hold(self, picking: Awaitable[Picked]) -> Picked | None:
        """Waits for the decision. None: Envoy has answered by itself, and was let go."""
        loop = asyncio.get_running_loop()
        reading = self._reading = loop.create_task(self._context.read())
        try:
            async with asyncio.timeout(None) as patience:

                def stop(read: asyncio.Task[Any]) -> None:
                    if not read.cancelled() and read.exception() is None and read.result() is not grpc.aio.EOF:
                        patience.reschedule(loop.time())

                reading.add_done_callback(stop)
                try:
                    return await picking
                finally:
                    reading.remove_done_callback(stop)
        except TimeoutError:
            if not patience.expired():
                raise
        self._reading = None
        for event in self._stream.receive(wire.decode(reading.result())):
            await self._do(event)
        return None

    async def _send(self, picked: Picked) -> None:
        """Says where the request goes. Up to the last message of that, a stream that ends takes the request along."""
        shared, stream, sent = self._shared, self._stream, picked.sent
        if picked.explanation:
            stream.follows = True
        if stream.follows:
            stream.answer_headers = self._answer_headers(picked)
        answers = stream.send_to(picked.destination, picked.added, picked.removed, picked.explanation)
        last = next(answers)
        try:
            for answer in answers:
                await self._context.write(last)
                last = answer
        except BaseException:
            shared.stats.gone += 1
            shared.ends.withdrawn(sent)
            raise
        self._sent = sent
        shared.stats.sent += 1
        if sent is not None:
            shared.ends.outstanding.add(sent)
        await self._answer(last)

    async def _answer(self, answer: bytes) -> None:
        """What is said when the stream is over is held back until something else is, or ``run`` returns it."""
        if self._stream.state is State.OVER:
            self._last, answer = answer, self._last
        if answer:
            await self._context.write(answer)

    def _answer_headers(self, picked: Picked) -> list[tuple[bytes, bytes]]:
        told = [
            (b"x-request-id", self._request_id),
            (b"x-weft-replica", replica_value(picked.destination.replica)),
        ]
        return [*told, (b"x-weft-explain", picked.explanation)] if picked.explanation else told

    async def _refuse(self, error: ApiError) -> None:
        told, headers = as_picker(error, self._request_id)
        self._shared.stats.refused[told.status] += 1
        await self._answer(self._stream.refuse(told, headers))

    def _answering(self, answering: Answering) -> None:
        self._status = answering.status
        if self._sent is not None and answering.served:
            self._shared.ends.served(self._sent, answering.served)

    def _progress(self, sent: Sent, sign: Sign) -> None:
        if sign is Sign.FIRST_BYTE:
            self._shared.ends.started(sent)
        else:
            self._shared.ends.ended(sent, _outcome(self._status))


def _outcome(status: int) -> Outcome:
    if status < 500:
        return Outcome.OK
    return Outcome.REJECTED if status == 503 else Outcome.FAILED
