"""An ext-proc server that only names replicas in turn: what Envoy's filter, gRPC and Protobuf cost by themselves.

python noop_extproc.py HOST:PORT|unix:PATH REPLICA_HOST:PORT...
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any

import grpc
import uvloop

from router.extproc.proto.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from router.extproc.proto.base_pb2 import HeaderValue, HeaderValueOption
from router.extproc.proto.external_processor_pb2 import (
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    ProcessingRequest,
    ProcessingResponse,
)

_MAX_MESSAGE_BYTES = 80 << 20
_PASS = ProcessingResponse(request_headers=HeadersResponse())


class Processor:
    """Lets heads pass, and answers bodies with the next replica."""

    def __init__(self, replicas: list[str]) -> None:
        self._answers = cycle([_send_to(each) for each in replicas])

    async def process(self, requests: AsyncIterator[Any], _: object) -> AsyncIterator[ProcessingResponse]:
        async for request in requests:
            is_whole = request.HasField("request_body") or request.request_headers.end_of_stream
            yield next(self._answers) if is_whole else _PASS


async def read_log(requests: AsyncIterator[Any], _: object) -> StreamAccessLogsResponse:
    """Reads Envoy's access log and forgets it."""
    async for _request in requests:
        pass
    return StreamAccessLogsResponse()


def _send_to(replica: str) -> ProcessingResponse:
    header = HeaderValue(key="x-gateway-destination-endpoint", raw_value=replica.encode())
    common = CommonResponse(header_mutation=HeaderMutation(set_headers=[HeaderValueOption(header=header)]))
    return ProcessingResponse(request_body=BodyResponse(response=common))


def _handlers(processor: Processor) -> tuple[Any, ...]:
    process = grpc.stream_stream_rpc_method_handler(
        processor.process, ProcessingRequest.FromString, ProcessingResponse.SerializeToString
    )
    log = grpc.stream_unary_rpc_method_handler(
        read_log, StreamAccessLogsMessage.FromString, StreamAccessLogsResponse.SerializeToString
    )
    return (
        grpc.method_handlers_generic_handler("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": process}),
        grpc.method_handlers_generic_handler("envoy.service.accesslog.v3.AccessLogService", {"StreamAccessLogs": log}),
    )


async def main(address: str, replicas: list[str]) -> None:
    """Serves until it is killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)])
    server.add_generic_rpc_handlers(_handlers(Processor(replicas)))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2:]))
