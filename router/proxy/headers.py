"""What of a head is sent on, in both directions."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from router.core.scheduler import Explanation
from router.core.types import Decision, Ticket
from router.proxy.heads import HttpRequest, ResponseHead
from router.proxy.origin import Origin
from router.proxy.ports import Headers

_HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_FOR_THE_ROUTER_TO_SAY = {
    b"x-request-id",
    b"x-data-parallel-rank",
    b"x-vllm-priority",
    b"x-prefiller-host-port",
    b"x-llm-d-prefiller-host-port",
}
"""The last two name whom llm-d's sidecar would ask to compute the prompt."""
_NOT_SENT_UP = frozenset(_HOP_BY_HOP | _FOR_THE_ROUTER_TO_SAY | {b"host", b"content-length", b"expect"})
_NOT_SENT_DOWN = frozenset(_HOP_BY_HOP | {b"content-length", b"x-request-id"})
_OWN_PREFIXES = (b"x-weft-", b"x-program-")
"""Also of hints: they are advice, and one that a replica would not stand must not break the request."""
MAX_EXPLANATION_BYTES = 8 * 1024


def add_request_id(request: HttpRequest, request_id: bytes) -> None:
    """Give a request an id that came without one, or with one that cannot be kept."""
    request.request_id = request_id
    request.headers = [item for item in request.headers if item[0] != b"x-request-id"]
    request.headers.append((b"x-request-id", request_id))


def upstream_head(
    request: HttpRequest, origin: Origin, rank: int | None, priority: int | None, body_bytes: int
) -> bytes:
    """The head of ``request`` as it goes to a replica, or to data-parallel rank ``rank`` of one.

    ``body_bytes`` follow it. ``priority`` is what the engine is told; it goes before what the body says. None: nothing.
    """
    target = origin.base_path + request.target
    lines = [b"%s %s HTTP/1.1\r\nhost: %s" % (request.method.encode(), target, origin.authority)]
    lines += _end_to_end(request.headers, _NOT_SENT_UP, request.hop_by_hop)
    lines.append(b"x-request-id: %s\r\ncontent-length: %d" % (request.request_id, body_bytes))
    if rank is not None:
        lines.append(b"x-data-parallel-rank: %d" % rank)
    if priority is not None:
        lines.append(b"x-vllm-priority: %d" % priority)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def client_head(head: ResponseHead, own_lines: bytes) -> bytes:
    """The head of a replica's answer as it goes to the client. Each of ``own_lines`` ends with CRLF."""
    lines = [b"HTTP/1.1 %d %s" % (head.status, head.reason)]
    lines += _end_to_end(head.headers, _NOT_SENT_DOWN, head.hop_by_hop)
    lines.append(own_lines + b"\r\n")
    return b"\r\n".join(lines)


def own_lines(request_id: bytes, decision: Decision, prefill: Ticket | None) -> bytes:
    """The lines that Weft adds to an answer: whose it is, who computed the prompt if somebody else did, and, if asked
    for, why."""
    lines = b"x-request-id: %s\r\nx-weft-replica: %s\r\n" % (request_id, replica_value(decision.replica.name))
    if prefill is not None and prefill.decision is not None:
        lines += b"x-weft-prefill-replica: %s\r\n" % replica_value(prefill.decision.replica.name)
    if decision.explanation is None:
        return lines
    return b"%sx-weft-explain: %s\r\n" % (lines, explanation_value(decision.explanation))


def explanation_value(explanation: Explanation) -> bytes:
    """``explanation`` as the value of a header."""
    value = explanation.to_json().translate(None, b"\r\n")
    return value if len(value) <= MAX_EXPLANATION_BYTES else b'{"truncated":true,"bytes":%d}' % len(value)


def local_head(status: int, headers: Headers, body_bytes: int, connection: bytes) -> bytes:
    """The head of an answer that the router makes itself. ``connection`` is a whole line or empty."""
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b": ".join(item) for item in headers]
    lines.append(b"content-length: %d\r\n%s\r\n" % (body_bytes, connection))
    return b"\r\n".join(lines)


def _end_to_end(headers: Headers, dropped: frozenset[bytes], named: frozenset[bytes]) -> list[bytes]:
    """Header lines without those in ``dropped`` and ``named``, and without Weft's own."""
    if named:
        dropped = dropped | named
    return [b": ".join(item) for item in headers if item[0] not in dropped and not item[0].startswith(_OWN_PREFIXES)]


@lru_cache(maxsize=4096)
def replica_value(text: str) -> bytes:
    """``text`` as the value of a header: what is not printable ASCII becomes ``?``."""
    return "".join(char if " " <= char <= "~" else "?" for char in text).encode()
