"""A real ext-proc server before pods that are only facts, and a real gRPC client that plays Envoy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from router.config import parse_config
from router.core.flow import Flow, Gate, Waiting
from router.core.router import Router
from router.core.types import Health, LoadReport, ReplicaSpec, Role
from router.core.view import Candidates, View
from router.disaggregating import make_disaggregation
from router.dispatcher import Dispatcher
from router.engine.prompts.maker import PromptMaker
from router.engine.prompts.text import TextPrompts
from router.extproc.proto.accesslog_pb2 import HTTPAccessLogEntry
from router.extproc.proto.als_pb2 import StreamAccessLogsMessage
from router.extproc.proto.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from router.extproc.server import ACCESS_LOG, EXT_PROC
from router.feed import Feed
from router.following import make_programs
from router.intake import Intake
from router.picking import Picking
from router.profiles import make_profiles
from router.proxy.priorities import Priorities
from router.queueing import identity_settings, make_flow

PATIENCE_S = 30.0
"""No wait in a test is meant to last this long; it turns a hang into a failure."""

DESTINATION = "x-gateway-destination-endpoint"
CHAT = "/v1/chat/completions"
FULL_DUPLEX, STREAMED, BUFFERED, BUFFERED_PARTIAL, NONE = 4, 1, 2, 3, 0
MODEL = "m"


@dataclass(frozen=True)
class Pod:
    """What is known of 10.0.0.(n+1):8000."""

    queue: int = 0
    kv_usage: float = 0.0
    adapters: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    url: str = ""
    models: tuple[str, ...] = (MODEL,)
    role: Role = Role.BOTH


def chat(text: str = "hello", **fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}).encode()


def request_headers(
    headers: dict[str, str] | None = None,
    *,
    method: str = "POST",
    path: str = CHAT,
    ends: bool = False,
    mode: int | None = FULL_DUPLEX,
    response_mode: int = NONE,
    early_body: bool = False,
    subset: Iterable[str] | None = None,
) -> ProcessingRequest:
    message = ProcessingRequest()
    pseudo = {":method": method, ":path": path, ":authority": "gateway", ":scheme": "http"}
    own = {"content-type": "application/json", "x-request-id": "id-1"} if headers is None else headers
    for name, value in (pseudo | own).items():
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    message.request_headers.end_of_stream = ends
    if mode is not None:
        message.protocol_config.request_body_mode = mode
        message.protocol_config.response_body_mode = response_mode
        message.protocol_config.send_body_without_waiting_for_header_response = early_body
    if subset is not None:
        hint = {"x-gateway-destination-endpoint-subset": list(subset)}
        message.metadata_context.filter_metadata["envoy.lb.subset_hint"].update(hint)
    return message


def request_body(data: bytes = b"", ends: bool = True) -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_body.body = data
    message.request_body.end_of_stream = ends
    return message


def bare(kind: str) -> ProcessingRequest:
    """A message of ``kind`` with nothing in it."""
    message = ProcessingRequest()
    getattr(message, kind).SetInParent()
    return message


@dataclass
class Told:
    """What an answer tells the gateway, in plain values."""

    answer: ProcessingResponse
    kind: str = field(init=False)

    def __post_init__(self) -> None:
        self.kind = self.answer.WhichOneof("response") or ""

    @property
    def common(self) -> Any:
        return getattr(self.answer, self.kind).response

    @property
    def set(self) -> dict[str, str]:
        options = self.common.header_mutation.set_headers
        names = [each.header.key for each in options]
        assert len(set(names)) == len(names), "a header is set twice"
        assert all(each.append_action == 2 for each in options), "a client's header would stay beside ours"
        return {each.header.key: each.header.raw_value.decode() for each in options}

    @property
    def removed(self) -> list[str]:
        return list(self.common.header_mutation.remove_headers)

    @property
    def metadata(self) -> dict[str, dict[str, str]]:
        return {key: dict(value) for key, value in self.answer.dynamic_metadata.items()}

    @property
    def endpoint(self) -> str:
        """Where the request goes; the same in header and metadata."""
        endpoint = self.set[DESTINATION]
        assert self.metadata["envoy.lb"] == {DESTINATION: endpoint}
        return endpoint

    @property
    def chunk(self) -> bytes:
        return bytes(self.common.body_mutation.streamed_response.body)

    @property
    def ends(self) -> bool:
        return bool(self.common.body_mutation.streamed_response.end_of_stream)

    @property
    def refusal(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers and the error of an immediate response."""
        assert self.kind == "immediate_response", self.answer
        said = self.answer.immediate_response
        headers = {each.header.key: each.header.raw_value.decode() for each in said.headers.set_headers}
        return said.status.code, headers, json.loads(said.body)["error"]


class Call:
    """One stream of Envoy's."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, *messages: ProcessingRequest) -> None:
        for message in messages:
            await within(self.call.write(message.SerializeToString()))

    async def next(self) -> Told | None:
        """The next answer; None: the server has closed the stream, whatever it thinks of it."""
        try:
            answer = await within(self.call.read())
        except grpc.aio.AioRpcError:
            return None
        return None if answer is grpc.aio.EOF else Told(ProcessingResponse.FromString(answer))

    async def rest(self) -> list[Told]:
        """All answers until the server closes the stream. After the gateway has, the last one may be empty."""
        answers = []
        while (told := await self.next()) is not None:
            answers.append(told)
        return [told for told in answers if told.kind]

    async def status(self) -> tuple[grpc.StatusCode, str]:
        return await within(self.call.code()), await within(self.call.details())

    async def close(self) -> None:
        """Nothing more is sent; answers are still read."""
        await within(self.call.done_writing())

    def cancel(self) -> None:
        self.call.cancel()


class Gateway:
    """Envoy's side of one server."""

    def __init__(self, rig: Rig, channel: grpc.aio.Channel) -> None:
        self.rig = rig
        self.channel = channel
        self._process = channel.stream_stream(f"/{EXT_PROC}/Process")
        self._log = channel.stream_unary(f"/{ACCESS_LOG}/StreamAccessLogs")

    def open(self) -> Call:
        return Call(self._process())

    async def ask(self, *messages: ProcessingRequest) -> list[Told]:
        """All answers to these messages."""
        call = self.open()
        await call.send(*messages)
        await call.close()
        return await call.rest()

    async def post(self, body: bytes | None = None, headers: dict[str, str] | None = None, **how: Any) -> Told:
        """The answer that decides a request with a body, sent at once."""
        named = {"content-type": "application/json", "x-request-id": "id-1"} | (headers or {})
        answers = await self.ask(request_headers(named, **how), request_body(chat() if body is None else body))
        return next(told for told in answers if told.kind == "immediate_response" or told.set)

    def open_log(self) -> Any:
        return self._log()


class OneAtATime:
    """A gate: each replica may have one request."""

    name = "one-at-a-time"

    def room(self, waiting: Waiting, candidates: Candidates, view: View) -> Any:
        return view.queued_requests + view.running_requests < 1


class Rig:
    """The router, its server, and what they know."""

    def __init__(self, pods: Iterable[Pod], config: dict[str, Any], gate: Gate | None = None) -> None:
        chosen = {"extproc": {"listen": "127.0.0.1:0"}, "profiles": {}} | config
        chosen["extproc"] = {"listen": "127.0.0.1:0"} | chosen["extproc"]
        self.config = parse_config(chosen, "test")
        self.now_s = 0.0
        """Added to the clock, for what takes long."""
        self.noted: list[tuple[str, Any]] = []
        loop = asyncio.get_running_loop()
        self.clock = lambda: loop.time() + self.now_s
        profiles = make_profiles(self.config.profiles, self.config.default_profile)
        programs = make_programs(self.config)
        disaggregation = make_disaggregation(self.config, profiles)
        flow = self._flow(gate)
        self.router = Router(
            profiles, self.config.router, seed=1, flow=flow, programs=programs, disaggregation=disaggregation
        )
        self.dispatcher = Dispatcher(self.router, self.clock, lambda *told: self.noted.append(told))
        self.intake = Intake(PromptMaker(TextPrompts()), identity_settings(self.config))
        self.priorities = Priorities()
        shared = (self.intake, self.dispatcher, self.router.fleet, self.priorities)
        self.picking = Picking(self.config, *shared, lambda *told: self.noted.append(told), self.clock)
        self.stats = self.picking.stats
        self.feed = Feed(self.router, self.dispatcher.replicas_changed, self.picking.down, self.picking.reported)
        for number, pod in enumerate(pods):
            self.put(number, pod)

    def _flow(self, gate: Gate | None) -> Flow:
        flow = make_flow(self.config)
        return flow if gate is None else replace(flow, gate=gate)

    def put(self, number: int, pod: Pod) -> None:
        name = f"10.0.0.{number + 1}:8000"
        url = pod.url or f"http://{name}"
        now = self.clock()
        spec = ReplicaSpec(name, url, role=pod.role, models=pod.models, adapters=pod.adapters)
        self.feed.on_replica(spec, now)
        self.feed.on_health(name, Health.HEALTHY, now)
        self.report(number, pod.queue, 0, pod.kv_usage, pod.active)

    def report(
        self, number: int, waiting: int, running: int, kv_usage: float = 0.0, active: tuple[str, ...] = ()
    ) -> None:
        report = LoadReport(running, waiting, kv_usage, active_adapters=frozenset(active))
        self.feed.on_load(f"10.0.0.{number + 1}:8000", report, self.clock())

    @property
    def in_flight(self) -> int:
        return self.router.in_flight


@asynccontextmanager
async def serving(
    *pods: Pod, gate: Gate | None = None, credentials: Any = None, **config: Any
) -> AsyncIterator[Gateway]:
    """A gateway before a server with these pods; ``config`` as in Weft's file."""
    rig = Rig(pods, config, gate)
    await rig.picking.start()
    address = f"127.0.0.1:{rig.picking.server.port}"
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    if credentials is None:
        channel = grpc.aio.insecure_channel(address, options)
    else:
        channel = grpc.aio.secure_channel(address, credentials, options)
    try:
        async with channel:
            yield Gateway(rig, channel)
    finally:
        rig.dispatcher.drain()
        await rig.picking.server.stop(0.0)
        await rig.picking.stop()
        rig.dispatcher.close()


def log_entry(
    request_id: str = "id-1", status: int = 200, endpoint: str = "10.0.0.1:8000", kind: int = 6, **flags: bool
) -> HTTPAccessLogEntry:
    entry = HTTPAccessLogEntry()
    entry.request.request_id = request_id
    entry.request.request_body_bytes = 100
    entry.response.response_code.value = status
    entry.response.response_body_bytes = 2000
    common = entry.common_properties
    if endpoint:
        host, _, port = endpoint.rpartition(":")
        common.upstream_remote_address.socket_address.address = host
        common.upstream_remote_address.socket_address.port_value = int(port)
    common.access_log_type = kind
    common.time_to_first_upstream_rx_byte.FromMilliseconds(250)
    common.duration.FromMilliseconds(1500)
    for flag, value in flags.items():
        setattr(common.response_flags, flag, value)
    return entry


def log_message(*entries: HTTPAccessLogEntry) -> bytes:
    message = StreamAccessLogsMessage()
    message.http_logs.log_entry.extend(entries)
    return bytes(message.SerializeToString())


def said_by_weft(caplog: Any) -> list[str]:
    """What the log has, without what gRPC tells of other tests' loops."""
    return [record.getMessage() for record in caplog.records if record.name != "asyncio"]


async def within(waiting: Any) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return await waiting


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
