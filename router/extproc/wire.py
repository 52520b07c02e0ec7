"""ext_proc's messages as bytes: what comes is read into plain values, what goes is written.

Parts that repeat are written once and kept. Two written messages that are joined are one message in Protobuf, with
the fields of both; that is how a kept part and a request's own part come together.

Source: Envoy's ``external_processor.proto`` (v3), of which ``proto/`` holds what is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from router.errors import ApiError
from router.extproc.messages import (
    BodyMode,
    Headers,
    Message,
    Modes,
    ProtocolError,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from router.extproc.names import DESTINATION, LB_NAMESPACE, OWN_NAMESPACE, SERVED, SUBSET, SUBSET_NAMESPACE, host_of
from router.extproc.proto.base_pb2 import HeaderValue, HeaderValueOption
from router.extproc.proto.external_processor_pb2 import ProcessingRequest, ProcessingResponse

MAX_CHUNK_BYTES = 62_000
"""Of a body that is sent back in pieces: some gateways take no more than 64 KB in one message."""

_OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


class Destination(NamedTuple):
    """Where a request goes, as Envoy is told."""

    endpoints: str
    """``ip:port``, or several in the order in which they are to be tried."""
    replica: str


def decode(data: bytes) -> Message:
    """Raises ProtocolError."""
    try:
        said = ProcessingRequest.FromString(data)
    except DecodeError as error:
        raise ProtocolError("not a ProcessingRequest") from error
    if said.observability_mode:
        raise ProtocolError("observability_mode: nobody would heed where the request is to go")
    kind = said.WhichOneof("request")
    if kind == "request_body":
        body = said.request_body
        return RequestBody(body.body, body.end_of_stream or body.end_of_stream_without_message)
    if kind == "request_headers":
        return _request_headers(said)
    if kind == "response_body":
        body = said.response_body
        return ResponseBody(body.body, body.end_of_stream or body.end_of_stream_without_message)
    if kind == "response_headers":
        head = said.response_headers
        return ResponseHeaders(_status(_pairs(head.headers)), head.end_of_stream, _served(said))
    if kind == "request_trailers":
        return RequestTrailers()
    if kind == "response_trailers":
        return ResponseTrailers()
    raise ProtocolError("a ProcessingRequest without a request")


def _request_headers(said: Any) -> RequestHeaders:
    head = said.request_headers
    modes = subset = None
    if said.HasField("protocol_config"):
        how = said.protocol_config
        early = how.send_body_without_waiting_for_header_response
        modes = _modes(how.request_body_mode, how.response_body_mode, early)
    if said.HasField("metadata_context"):
        subset = _subset(said.metadata_context.filter_metadata)
    return RequestHeaders(_pairs(head.headers), head.end_of_stream, modes, subset)


@lru_cache(maxsize=64)
def _modes(request_body: int, response_body: int, body_comes_before_answer: bool) -> Modes:
    try:
        return Modes(BodyMode(request_body), BodyMode(response_body), body_comes_before_answer)
    except ValueError as error:
        raise ProtocolError(f"protocol_config: {error}") from error


def _pairs(headers: Any) -> Headers:
    return [(each.key.lower().encode(), each.raw_value or each.value.encode()) for each in headers.headers]


def _subset(metadata: Any) -> frozenset[str] | None:
    """The IPs in the subset hint: a list of endpoints, or text with commas between them."""
    if SUBSET_NAMESPACE not in metadata or SUBSET not in metadata[SUBSET_NAMESPACE].fields:
        return None
    hint = metadata[SUBSET_NAMESPACE].fields[SUBSET]
    listed = [each.string_value for each in hint.list_value.values]
    return frozenset(host_of(each.strip()) for each in listed or hint.string_value.split(",") if each.strip())


def _served(said: Any) -> str:
    metadata = said.metadata_context.filter_metadata
    if LB_NAMESPACE not in metadata or SERVED not in metadata[LB_NAMESPACE].fields:
        return ""
    return str(metadata[LB_NAMESPACE].fields[SERVED].string_value)


def _status(headers: Headers) -> int:
    said = dict(headers).get(b":status", b"")
    return int(said) if said.isdigit() else 0


_LET_PASS = {
    kind: bytes(ProcessingResponse(**{kind: {}}).SerializeToString())
    for kind in (
        "request_headers",
        "request_body",
        "request_trailers",
        "response_headers",
        "response_body",
        "response_trailers",
    )
}


def let_pass(kind: str) -> bytes:
    """Envoy goes on with this part of the request or response as it is."""
    return _LET_PASS[kind]


def send_to(kind: str, destination: Destination, added: Headers, removed: Sequence[str], explanation: bytes) -> bytes:
    """The answer of ``kind``, request_headers or request_body, that says where the request goes."""
    answer = _send_to(kind, destination)
    if not added and not removed and not explanation:
        return answer
    own = ProcessingResponse()
    mutation = getattr(own, kind).response.header_mutation
    mutation.set_headers.extend(_options(added))
    mutation.remove_headers.extend(removed)
    if explanation:
        told = {"replica": destination.replica, "explain": explanation.decode("ascii")}
        own.dynamic_metadata.update({OWN_NAMESPACE: told})
    return answer + bytes(own.SerializeToString())


@lru_cache(maxsize=4096)
def _send_to(kind: str, destination: Destination) -> bytes:
    answer = ProcessingResponse()
    common = getattr(answer, kind).response
    common.clear_route_cache = True
    common.header_mutation.set_headers.extend(_options([(DESTINATION.encode(), destination.endpoints.encode())]))
    told = {LB_NAMESPACE: {DESTINATION: destination.endpoints}, OWN_NAMESPACE: {"replica": destination.replica}}
    answer.dynamic_metadata.update(told)
    return bytes(answer.SerializeToString())


def response_headers(added: Headers) -> bytes:
    """The answer's head, with ``added``."""
    answer = ProcessingResponse()
    answer.response_headers.response.header_mutation.set_headers.extend(_options(added))
    return bytes(answer.SerializeToString())


def body_chunks(kind: str, body: bytes, ends: bool) -> Iterator[bytes]:
    """``body`` in pieces, as FULL_DUPLEX_STREAMED wants it; the last of them ends it if ``ends``. At least one."""
    for at in range(0, len(body) or 1, MAX_CHUNK_BYTES):
        answer = ProcessingResponse()
        chunk = getattr(answer, kind).response.body_mutation.streamed_response
        chunk.body = body[at : at + MAX_CHUNK_BYTES]
        chunk.end_of_stream = ends and at + MAX_CHUNK_BYTES >= len(body)
        yield bytes(answer.SerializeToString())


def answer_at_once(error: ApiError, headers: Headers) -> bytes:
    """Envoy answers the client with ``error``; nothing goes to a replica."""
    answer = ProcessingResponse()
    immediate = answer.immediate_response
    immediate.status.code = error.status
    immediate.headers.set_headers.extend(_options(headers))
    immediate.body = error.body()
    immediate.details = f"weft_{error.code or error.type}"
    return bytes(answer.SerializeToString())


def _options(headers: Headers) -> list[Any]:
    return [
        HeaderValueOption(header=HeaderValue(key=name.decode(), raw_value=value), append_action=_OVERWRITE)
        for name, value in headers
    ]
