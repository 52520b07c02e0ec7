"""The answer of a decode replica, with the cached tokens of the prefill replica in its usage.

To the decode replica everything that it fetched was cached, or nothing; the client wants to know what of its prompt had
been computed before. The number may be longer than the one that it replaces, so the answer gets framing of its own. An
unstreamed answer is corrected when it is complete, and passed on as it is when it is too long to wait for.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from router.core.types import Outcome, Usage
from router.errors import ApiError
from router.proxy import sse
from router.proxy.answer import Answer
from router.proxy.framing import ChunkedFraming, Framing
from router.proxy.heads import HttpRequest, ResponseHead
from router.proxy.usage import USAGE_KEY, last_usage

if TYPE_CHECKING:
    from router.proxy.server import ClientConnection

MAX_LINE_BYTES = 64 * 1024
"""A longer line of a stream is not waited for; it holds no usage."""
_CACHED = re.compile(rb'("cached_tokens"\s*:\s*)\d+')


def with_cached_tokens(data: bytes, cached_tokens: int) -> bytes:
    """``data`` with that number wherever a ``usage`` object says how many tokens were cached."""
    if b'"cached_tokens"' not in data:
        return data
    before = len(data)
    while (found := last_usage(data, before)) is not None:
        start, end = found
        data = data[:start] + _CACHED.sub(b"\\g<1>%d" % cached_tokens, data[start:end]) + data[end:]
        before = data.rindex(USAGE_KEY, 0, start)
    return data


class CorrectedAnswer:
    """An `Answer` that is handed the payload, and frames what it makes of it."""

    __slots__ = ("_answer", "_cached_tokens", "_chunked", "_client", "_complete", "_head", "_line", "_request")

    is_dechunked = True
    _answer: Answer

    def __init__(
        self, client: ClientConnection, request: HttpRequest, head: ResponseHead, cached_tokens: int, complete: bool
    ) -> None:
        """``complete``: all of the body is there when it begins."""
        self._client = client
        self._request = request
        self._head = head
        self._cached_tokens = cached_tokens
        self._complete = complete
        self._chunked = False
        self._line = b""
        """Of a stream, the beginning of a line whose end is still to come."""

    def begin(self, own_lines: bytes, body: bytes) -> None:
        """Send the head, with ``own_lines`` of the router's, and what there is of the body."""
        head = self._head
        if head.is_stream:
            head = replace(head, chunked=True, length=None)
            body = self._whole_lines(body)
        elif self._complete:
            body = with_cached_tokens(body, self._cached_tokens)
            head = replace(head, chunked=False, length=len(body))
        self._chunked = head.chunked and not self._request.http_1_0
        self._answer = Answer(self._client, self._request, head)
        self._answer.begin(own_lines, self._framed(body))

    def pass_on(self, piece: bytes) -> None:
        if self._head.is_stream:
            piece = self._whole_lines(piece)
        if piece:
            self._answer.pass_on(self._framed(piece))

    def end(self) -> tuple[Outcome, Usage | None]:
        rest, self._line = self._framed(self._line), b""
        if self._chunked:
            rest += sse.LAST_CHUNK
        if rest:
            self._answer.pass_on(rest)
        return self._answer.end()

    def break_off(self, framing: Framing | None, error: ApiError) -> bool:
        """What was sent is whole chunks, whatever ``framing`` says of what came. A line begun is not sent at all."""
        return self._answer.break_off(ChunkedFraming(), error)

    def _whole_lines(self, piece: bytes) -> bytes:
        piece = self._line + piece
        end = piece.rfind(b"\n") + 1
        if len(piece) - end > MAX_LINE_BYTES:
            end = len(piece)
        self._line = piece[end:]
        return with_cached_tokens(piece[:end], self._cached_tokens)

    def _framed(self, payload: bytes) -> bytes:
        return sse.chunk(payload) if payload and self._chunked else payload
