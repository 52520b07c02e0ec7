"""An ext-proc server that only names replicas in turn: what Envoy's filter, gRPC and Python's stubs cost by themselves.

python noop_extproc.py HOST:PORT|unix:PATH REPLICA_HOST:PORT...
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any

import grpc
import uvloop
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsResponse
from envoy.service.accesslog.v3.als_pb2_grpc import (
    AccessLogServiceServicer,
    add_AccessLogServiceServicer_to_server,
)
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    ProcessingResponse,
)
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import (
    ExternalProcessorServicer,
    add_ExternalProcessorServicer_to_server,
)

_MAX_MESSAGE_BYTES = 80 << 20
_PASS = ProcessingResponse(request_headers=HeadersResponse())


class Processor(ExternalProcessorServicer):
    """Lets heads pass, and answers bodies with the next replica."""

    def __init__(self, replicas: list[str]) -> None:
        self._answers = cycle([_send_to(each) for each in replicas])

    async def Process(self, requests: AsyncIterator[Any], _: object) -> AsyncIterator[ProcessingResponse]:  # noqa: N802
        async for request in requests:
            is_whole = request.HasField("request_body") or request.request_headers.end_of_stream
            yield next(self._answers) if is_whole else _PASS


class Logs(AccessLogServiceServicer):
    """Reads Envoy's access logs and forgets them."""

    async def StreamAccessLogs(self, requests: AsyncIterator[Any], _: object) -> StreamAccessLogsResponse:  # noqa: N802
        async for _request in requests:
            pass
        return StreamAccessLogsResponse()


def _send_to(replica: str) -> ProcessingResponse:
    header = HeaderValue(key="x-gateway-destination-endpoint", raw_value=replica.encode())
    common = CommonResponse(header_mutation=HeaderMutation(set_headers=[HeaderValueOption(header=header)]))
    return ProcessingResponse(request_body=BodyResponse(response=common))


async def main(address: str, replicas: list[str]) -> None:
    """Serves until it is killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)])
    add_ExternalProcessorServicer_to_server(Processor(replicas), server)
    add_AccessLogServiceServicer_to_server(Logs(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2:]))
