"""The gRPC server: ext-proc, the access log, health and reflection on one port."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from router.extproc.access_log import read_entries
from router.extproc.ends import Ends
from router.extproc.messages import ProtocolError
from router.extproc.names import endpoint_of
from router.extproc.picker import Picker
from router.extproc.processing import Processing, Shared, StreamSettings
from router.extproc.proto.als_pb2 import StreamAccessLogsResponse
from router.extproc.stats import ExtProcStats
from router.extproc.threads import step_back
from router.extproc.tls import TlsFiles, credentials
from router.proxy.listener import split_address

EXT_PROC = "envoy.service.ext_proc.v3.ExternalProcessor"
ACCESS_LOG = "envoy.service.accesslog.v3.AccessLogService"
_HEALTH = "grpc.health.v1.Health"
_LOOK_AGAIN_S = 0.05
_LAST_WORDS_S = 0.25
_SERVING = ("", "liveness", "readiness", EXT_PROC, ACCESS_LOG)
_OVERHEAD_BYTES = 1 << 20
"""Of a message, above the body in it."""
_MAX_PENDING = 100_000
"""Streams that have come and were not yet looked at. From gRPC's own thousand on it refuses some of them."""
_EXPIRE_EVERY_S = 5.0


class ExtProcServer:
    """``start``, and ``stop`` when done. Messages pass gRPC as bytes: what they hold is read in ``wire``."""

    def __init__(
        self, picker: Picker, ends: Ends, stats: ExtProcStats, settings: StreamSettings, tls: TlsFiles | None = None
    ) -> None:
        self._shared = Shared(picker, ends, stats, settings)
        self._tls = tls
        self._logs: set[asyncio.Task[Any]] = set()
        self._stops = False
        self._expiring: asyncio.Task[None] | None = None
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", settings.max_body_bytes + _OVERHEAD_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.server.max_pending_requests", _MAX_PENDING),
                ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
            )
        )
        self.port = 0
        """What is listened on, known after ``start``."""

    async def start(self, address: str) -> None:
        """Listens on ``host:port`` or ``unix:path``.

        Raises OSError when it cannot, ValueError when the address is none or the certificates cannot be used.
        """
        if not address.startswith("unix:"):
            host, port = split_address(address)
            address = endpoint_of(host or "::", port)
        self._add_services()
        try:
            if self._tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials(self._tls))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await self._server.start()
        step_back()
        for service in _SERVING:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._expiring = asyncio.create_task(self._expire())

    async def stop(self, grace_s: float) -> None:
        """Says that it does not serve any more, takes no more streams, and gives those under way ``grace_s``."""
        self._stops = True
        await self._health.enter_graceful_shutdown()
        if self._expiring is not None:
            self._expiring.cancel()
        for log in self._logs:
            log.cancel()
        stopping = asyncio.ensure_future(self._server.stop(grace_s))
        while self._shared.stats.streams_open and not stopping.done():
            await asyncio.wait([stopping], timeout=_LOOK_AGAIN_S)
        # A log that gRPC has taken and not handed over yet would hold it up: what requests wait for is said by now.
        await asyncio.wait([stopping], timeout=_LAST_WORDS_S)
        await self._server.stop(None)
        await stopping

    def _add_services(self) -> None:
        # As a handler that returns its last answer: gRPC then sends that together with the end of the stream.
        process = grpc.stream_unary_rpc_method_handler(self._process)
        log = grpc.stream_unary_rpc_method_handler(self._receive_log)
        handlers = (
            grpc.method_handlers_generic_handler(EXT_PROC, {"Process": process}),
            grpc.method_handlers_generic_handler(ACCESS_LOG, {"StreamAccessLogs": log}),
        )
        self._server.add_generic_rpc_handlers(handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (EXT_PROC, ACCESS_LOG, _HEALTH, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def _process(self, _: object, context: Any) -> bytes:
        return await Processing(self._shared, context).run()

    async def _receive_log(self, _: object, context: Any) -> bytes:
        """Envoy keeps one of these open for as long as it runs, and opens a new one when it ends."""
        task = asyncio.current_task()
        stats = self._shared.stats
        if task is not None:
            self._logs.add(task)
        stats.logs_open += 1
        wrong = ""
        try:
            while not self._stops and (data := await context.read()) is not grpc.aio.EOF:
                for entry in read_entries(data):
                    self._shared.ends.logged(entry)
        except ProtocolError as error:
            stats.malformed["access_log"] += 1
            wrong = str(error)
        except (asyncio.CancelledError, grpc.aio.BaseError):
            pass
        finally:
            stats.logs_open -= 1
            if task is not None:
                self._logs.discard(task)
        if wrong:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
        return bytes(StreamAccessLogsResponse().SerializeToString())

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRE_EVERY_S)
            self._shared.ends.expire()
