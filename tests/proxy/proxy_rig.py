"""A proxy on a real socket, between a raw client and replicas that do what a test tells them, byte by byte."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

from router.core.types import Decision, Outcome, ReplicaSpec, Request, Ticket, TicketKind, Usage
from router.engine.kv_transfer.connector import make_connector
from router.errors import ApiError
from router.proxy.limits import ProxyLimits
from router.proxy.listener import Listener
from router.proxy.ports import Headers, LocalResponse
from router.proxy.proxy import Proxy

T = TypeVar("T")

PATIENCE_S = 10.0
"""No wait in a test is meant to last this long; it turns a hang into a failure."""

PATH = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[]}'
ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'


def post(body: bytes = BODY, path: str = PATH, extra: str = "", version: str = "1.1") -> bytes:
    head = f"POST {path} HTTP/{version}\r\nHost: weft\r\nContent-Type: application/json\r\n{extra}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ok(body: bytes = ANSWER, content_type: str = "application/json", extra: str = "", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nserver: uvicorn\r\ncontent-type: {content_type}\r\n{extra}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


def event(data: bytes) -> bytes:
    return chunk(b"data: " + data + b"\n\n")


def delta(text: str, finish: str | None = None) -> bytes:
    reason = "null" if finish is None else f'"{finish}"'
    choice = f'{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":{reason}}}'
    return event(f'{{"object":"chat.completion.chunk","choices":[{choice}]}}'.encode())


ROLE = event(b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}')
DONE = event(b"[DONE]")
END = b"0\r\n\r\n"


class Call:
    """One request as a replica received it, and the connection to answer it on."""

    def __init__(self, connection: ReplicaConnection, head: bytes, body: bytes) -> None:
        self.connection = connection
        self.head = head
        self.body = body

    @property
    def request_line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    @property
    def headers(self) -> Headers:
        lines = self.head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    def send(self, data: bytes) -> None:
        self.connection.transport.write(data)

    async def flush(self) -> None:
        """Until the proxy has taken nearly all that was sent."""
        await within(self.connection.writable.wait())

    def close(self) -> None:
        self.connection.transport.close()

    def reset(self) -> None:
        self.connection.transport.abort()

    async def gone(self) -> None:
        """Until the proxy closed the connection."""
        await within(self.connection.lost.wait())


Script = Callable[[Call], Awaitable[None]]


class ReplicaConnection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.received = bytearray()
        self.tasks: list[asyncio.Task[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.replica.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n") + 4) > 3:
            head = bytes(self.received[:end])
            length = re.search(rb"content-length: (\d+)", head)
            stop = end + (int(length[1]) if length else 0)
            if len(self.received) < stop:
                return
            call = Call(self, head, bytes(self.received[end:stop]))
            del self.received[:stop]
            self.replica.calls.append(call)
            self.replica.arrived.set()
            self.tasks.append(asyncio.ensure_future(self.replica.script(call)))

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


class Replica:
    """A server that answers with a script. ``calls`` and ``connections`` say what it saw."""

    def __init__(self, script: Script, index: int, kind: str = "replica") -> None:
        self.script = script
        self.name = f"{kind}-{index}"
        self.calls: list[Call] = []
        self.connections: list[ReplicaConnection] = []
        self.arrived = asyncio.Event()
        self.server: asyncio.Server | None = None
        self.scheme = "http"

    async def start(self, ssl: object = None) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: ReplicaConnection(self), "127.0.0.1", 0, ssl=ssl)
        self.scheme = "https" if ssl else "http"

    @property
    def spec(self) -> ReplicaSpec:
        return ReplicaSpec(name=self.name, url=self.url)

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"{self.scheme}://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def next_call(self) -> Call:
        """The latest request, once there is one that was not asked for yet."""
        await within(self.arrived.wait())
        self.arrived.clear()
        return self.calls[-1]

    def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for connection in self.connections:
            connection.transport.abort()
            for task in connection.tasks:
                task.cancel()


def answering(*pieces: bytes) -> Script:
    """A script that sends ``pieces`` at once, each as a write of its own."""

    async def script(call: Call) -> None:
        for piece in pieces:
            call.send(piece)
            await asyncio.sleep(0)

    return script


async def silence(call: Call) -> None:
    """A script that never answers."""


class RecordingIntake:
    def __init__(self) -> None:
        self.seen: list[tuple[str, Headers, bytes]] = []

    def read(self, path: str, headers: Headers, body: bytes) -> Request:
        self.seen.append((path, headers, body))
        return Request(id=dict(headers)[b"x-request-id"].decode("latin-1"), model="m")


@dataclass
class RoundRobin:
    """Asks the replicas in turn, each at most once for a request. Where there are others that prefill, each ticket
    starts with the first of these."""

    specs: list[ReplicaSpec]
    prefills: list[ReplicaSpec] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    ends: asyncio.Queue[tuple[str, Outcome, Usage | None]] = field(default_factory=asyncio.Queue)
    open: set[Ticket] = field(default_factory=set)
    """Tickets handed out and not ended."""
    leg_ends: list[tuple[str, Outcome, Usage | None]] = field(default_factory=list)
    served_whole: int = 0
    _legs: dict[Ticket, list[Ticket]] = field(default_factory=dict)
    """Of each ticket all legs so far, the last one under way or ended."""
    _next: int = 0

    async def route(self, request: Request) -> Ticket:
        for _ in self.specs:
            spec = self.specs[self._next % len(self.specs)]
            self._next += 1
            if spec.name not in request.excluded:
                ticket = Ticket(request, 0.0, Decision(spec, 0))
                self.open.add(ticket)
                self._legs[ticket] = []
                self._start_leg(ticket)
                return ticket
        raise ApiError(503, "No replica is left.", retry_after_s=7)

    def response_started(self, ticket: Ticket) -> None:
        assert ticket in self.open
        assert ticket.decision is not None
        self.started.append(ticket.decision.replica.name)

    def prefill_ended(self, leg: Ticket, outcome: Outcome, usage: Usage | None = None) -> None:
        assert leg.kind is TicketKind.PREFILL
        assert leg in self.open
        self.open.remove(leg)
        assert leg.decision is not None
        self.leg_ends.append((leg.decision.replica.name, outcome, usage))

    def prefill_elsewhere(self, ticket: Ticket) -> bool:
        assert ticket.prefill not in self.open, "the leg has not ended"
        self._start_leg(ticket)
        return ticket.prefill is not None

    def serve_whole(self, ticket: Ticket) -> None:
        self.served_whole += 1
        self.open.discard(ticket.prefill)
        ticket.prefill = None

    def _start_leg(self, ticket: Ticket) -> None:
        legs = self._legs[ticket]
        ticket.prefill = None
        if len(legs) < len(self.prefills):
            decision = Decision(self.prefills[len(legs)], 0, priority=ticket.decision and ticket.decision.priority)
            ticket.prefill = Ticket(ticket.request, 0.0, decision, kind=TicketKind.PREFILL)
            legs.append(ticket.prefill)
            self.open.add(ticket.prefill)

    def legs(self) -> list[tuple[str, Outcome]]:
        """How prefill legs ended so far."""
        return [(name, outcome) for name, outcome, _ in self.leg_ends]

    def response_ended(self, ticket: Ticket, outcome: Outcome, usage: Usage | None = None) -> None:
        self.open.remove(ticket)
        assert ticket.prefill not in self.open, "its prefill leg has not ended"
        assert ticket.decision is not None
        self.ends.put_nowait((ticket.decision.replica.name, outcome, usage))

    async def outcomes(self, count: int) -> list[tuple[str, Outcome]]:
        """How the next ``count`` tries ended; there must be no other."""
        ended = [(await within(self.ends.get()))[:2] for _ in range(count)]
        assert self.ends.empty()
        return ended


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes
    """Without framing."""
    head: bytes


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.answer()

    async def unsent_bytes(self) -> int:
        """What the proxy does not take, once nothing moves any more."""
        return await settled(self.writer.transport.get_write_buffer_size)

    async def head(self) -> tuple[int, dict[bytes, bytes], bytes]:
        raw = await within(self.reader.readuntil(b"\r\n\r\n"))
        lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        pairs = [(name, value) for name, _, value in (line.partition(b": ") for line in lines[1:])]
        assert len({name for name, _ in pairs}) == len(pairs), "a header came twice"
        return int(lines[0].split(b" ")[1]), dict(pairs), raw

    async def answer(self) -> Answer:
        status, headers, raw = await self.head()
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b"".join([piece async for piece in self.chunks()])
        elif b"content-length" in headers:
            body = await within(self.reader.readexactly(int(headers[b"content-length"])))
        else:
            body = await self.rest()
        return Answer(status, headers, body, raw)

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = int(await within(self.reader.readuntil(b"\r\n")), 16)
            payload = await within(self.reader.readexactly(size + 2))
            assert payload.endswith(b"\r\n")
            if size == 0:
                return
            yield payload[:-2]

    async def rest(self) -> bytes:
        """Everything until the connection is closed."""
        return await within(self.reader.read())

    async def is_closed(self) -> bool:
        return await self.rest() == b""

    def leave(self) -> None:
        """Vanish without a word."""
        self.writer.transport.abort()


@dataclass
class Rig:
    proxy: Proxy
    listener: Listener
    dispatcher: RoundRobin
    intake: RecordingIntake
    replicas: list[Replica]
    prefills: list[Replica]
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.listener.port))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes) -> Answer:
        return await (await self.connect()).ask(data)


@asynccontextmanager
async def weft(
    *scripts: Script, ssl: object = None, prefills: Sequence[Script] = (), connector: str = "nixl", **limits: object
) -> AsyncIterator[Rig]:
    """A proxy before one replica per script, and before those that prefill for them. Deadlines are looked at every few
    milliseconds.

    At the end nothing may be left over: no ticket, no connection, no request, no unexpected exception.
    """
    unexpected: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))
    replicas = [Replica(script, index) for index, script in enumerate(scripts)]
    prefilling = [Replica(script, index, "prefill") for index, script in enumerate(prefills)]
    for replica in (*replicas, *prefilling):
        await replica.start(ssl)
    dispatcher = RoundRobin([replica.spec for replica in replicas], [replica.spec for replica in prefilling])
    intake = RecordingIntake()
    routes = {("GET", "/health"): lambda: LocalResponse(200, [(b"content-type", b"text/plain")], b"fine")}
    settings = {"deadline_resolution_s": 0.005, "linger_s": 0.05, **limits}
    proxy = Proxy(intake, dispatcher, ProxyLimits(**settings), routes, make_connector(connector))  # type: ignore[arg-type]
    listener = Listener(proxy, "127.0.0.1:0")
    await listener.start()
    rig = Rig(proxy, listener, dispatcher, intake, replicas, prefilling)
    try:
        yield rig
    finally:
        for client in rig.clients:
            client.leave()
        await listener.drain()
        proxy.close()
        for replica in (*replicas, *prefilling):
            replica.stop()
    assert not unexpected
    assert not dispatcher.open, "a ticket was never ended"
    assert proxy.stats.requests_in_flight == 0
    assert proxy.stats.connections_open == 0
    assert proxy.stats.internal_errors == 0


async def settled(size: Callable[[], int]) -> int:
    """The value of ``size`` when it has not changed for many turns of the event loop."""
    seen, turns = size(), 0
    while turns < 200:
        await asyncio.sleep(0)
        turns = turns + 1 if size() == seen else 0
        seen = size()
    return seen


async def within(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable
