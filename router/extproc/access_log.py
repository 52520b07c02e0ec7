"""Envoy's access log: what became of each request.

Sources: Envoy's ``accesslog.proto`` and ``als.proto`` (v3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from router.core.types import Outcome
from router.extproc.messages import ProtocolError
from router.extproc.names import endpoint_of
from router.extproc.proto.accesslog_pb2 import DownstreamEnd, NotSet
from router.extproc.proto.als_pb2 import StreamAccessLogsMessage

_ENDS = (NotSet, DownstreamEnd)
"""Older versions of Envoy log ends only, and do not say so."""


class Entry(NamedTuple):
    """A request that is over."""

    request_id: str
    outcome: Outcome
    status: int
    endpoint: str
    """``ip:port`` that was asked last; empty: none."""
    attempts: int
    request_bytes: int
    response_bytes: int
    head_s: float
    """From the request's first byte to the first byte of the replica's answer, which may be its head alone; 0: none."""
    duration_s: float


def read_entries(data: bytes) -> Iterator[Entry]:
    """The requests that ended. Raises ProtocolError."""
    try:
        message = StreamAccessLogsMessage.FromString(data)
    except DecodeError as error:
        raise ProtocolError("not a StreamAccessLogsMessage") from error
    for entry in message.http_logs.log_entry:
        common = entry.common_properties
        if common.access_log_type in _ENDS and not common.intermediate_log_entry:
            yield _entry(entry, common)


def _entry(entry: Any, common: Any) -> Entry:
    asked, answered = entry.request, entry.response
    address = common.upstream_remote_address.socket_address
    endpoint = endpoint_of(address.address, address.port_value) if address.port_value else ""
    status = answered.response_code.value
    return Entry(
        asked.request_id,
        _outcome(common.response_flags, status, endpoint),
        status,
        endpoint,
        common.upstream_request_attempt_count,
        asked.request_body_bytes,
        answered.response_body_bytes,
        _seconds(common.time_to_first_upstream_rx_byte),
        _seconds(common.duration),
    )


def _outcome(flags: Any, status: int, endpoint: str) -> Outcome:
    if flags.downstream_connection_termination or flags.downstream_remote_reset:
        return Outcome.CLIENT_GONE
    if flags.upstream_request_timeout or flags.stream_idle_timeout or flags.upstream_max_stream_duration_reached:
        return Outcome.TIMEOUT
    if status == 503 and not flags.upstream_connection_failure:
        return Outcome.REJECTED
    if flags.upstream_remote_reset or flags.upstream_connection_termination or flags.upstream_protocol_error:
        return Outcome.FAILED
    if 0 < status < 500:
        return Outcome.OK
    return Outcome.FAILED if endpoint else Outcome.REJECTED


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)
