"""Where a message body ends.

Bytes are forwarded as they came, so a body is not decoded: its framing is only followed, a few operations a
chunk. Whoever wants the decoded body as well hands in a ``payload`` to collect it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

MAX_LINE_BYTES = 4096
"""A chunk's size line with its extensions, or one trailer line."""
MAX_TRAILER_BYTES = 16 * 1024
MAX_PADDING_BYTES = 64 * 1024
MAX_SIZE_DIGITS = 16
_HEX = b"0123456789abcdefABCDEF"


class FramingError(Exception):
    """The bytes are not a body in the framing that the head announced."""


class Framing(Protocol):
    """Follows one body. Fed each piece once, in order."""

    def feed(self, data: bytes, payload: bytearray | None = None) -> int:
        """The index in ``data`` where the body ends, or -1 when it goes on. Raises FramingError."""

    def close(self) -> bool:
        """Whether the body is complete when the connection ends here."""


class LengthFraming:
    """Content-Length."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes, payload: bytearray | None = None) -> int:
        left = self._left
        if payload is not None:
            payload += data[:left]
        if len(data) < left:
            self._left = left - len(data)
            return -1
        self._left = 0
        return left

    def close(self) -> bool:
        return self._left == 0


class CloseFraming:
    """The body ends with the connection."""

    __slots__ = ()

    def feed(self, data: bytes, payload: bytearray | None = None) -> int:
        if payload is not None:
            payload += data
        return -1

    def close(self) -> bool:
        return True


_SIZE, _DATA, _DATA_END, _TRAILER, _NOTHING = range(5)
"""What comes next in a chunked body."""


class ChunkedFraming:
    """Transfer-Encoding: chunked (RFC 9112 section 7.1)."""

    __slots__ = ("_expect", "_left", "_partial", "_trailer_bytes")

    def __init__(self) -> None:
        self._expect = _SIZE
        self._left = 0
        """Payload bytes of the current chunk still to come."""
        self._partial = b""
        """The beginning of a line that the last piece broke off."""
        self._trailer_bytes = 0

    def feed(self, data: bytes, payload: bytearray | None = None) -> int:
        kept = len(self._partial)
        if kept:
            data = self._partial + data
            self._partial = b""
        expect, left, pos = self._expect, self._left, 0
        while True:
            if expect == _DATA:
                end = pos + left
                if payload is not None:
                    payload += data[pos:end]
                left = end - len(data)
                if left > 0:
                    break
                pos, expect = end, _DATA_END
            line_end = data.find(b"\r\n", pos, pos + MAX_LINE_BYTES)
            if line_end < 0:
                self._partial = data[pos:]
                break
            line = data[pos:line_end]
            pos = line_end + 2
            if expect == _SIZE:
                left = chunk_size(line)
                expect = _DATA if left else _TRAILER
            elif expect == _DATA_END:
                if line:
                    raise FramingError("a chunk is longer than its size")
                expect = _SIZE
            elif line:
                self._check_trailer(line)
            else:
                self._expect = _NOTHING
                return pos - kept
        self._expect, self._left = expect, left
        if self._partial:
            self._check_partial()
        return -1

    def close(self) -> bool:
        return self._expect == _NOTHING

    def padding(self) -> bytes | None:
        """What ends the chunk begun, so that another can follow; its payload is filled up with newlines.

        None where nothing can: the last chunk or an extension has begun, or too much is missing.
        """
        if self._expect == _SIZE:
            return self._size_padding()
        if self._expect == _DATA and self._left <= MAX_PADDING_BYTES:
            return b"\n" * self._left + b"\r\n"
        if self._expect == _DATA_END:
            return b"\r\n"[len(self._partial) :]
        return None

    def _size_padding(self) -> bytes | None:
        digits = self._partial.removesuffix(b"\r")
        if not digits:
            return b""
        if digits.translate(None, _HEX) or not 0 < (size := int(digits, 16)) <= MAX_PADDING_BYTES:
            return None
        return b"\r\n"[len(self._partial) - len(digits) :] + b"\n" * size + b"\r\n"

    def _check_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            raise FramingError("the trailer is too long")
        if line.find(b":") < 1 or b"\n" in line or b"\r" in line:
            raise FramingError("a trailer line is not a header")

    def _check_partial(self) -> None:
        """Refuse what no further byte can mend."""
        partial = self._partial
        if self._expect == _DATA_END and partial != b"\r":
            raise FramingError("a chunk is longer than its size")
        if len(partial) >= MAX_LINE_BYTES:
            raise FramingError("a chunk-size or trailer line is too long")
        if b"\n" in partial:
            raise FramingError("a line of the chunked body ends without CR")


@lru_cache(maxsize=1024)
def chunk_size(line: bytes) -> int:
    """The size in a chunk's first line. Extensions are allowed and mean nothing. Raises FramingError.

    A stream's chunks have few different sizes, so looking one up is several times cheaper than reading it.
    """
    digits, _, extension = line.partition(b";")
    if not digits or len(digits) > MAX_SIZE_DIGITS or digits.translate(None, _HEX):
        raise FramingError("a chunk size is not a hexadecimal number")
    if extension and not all(char == 9 or 32 <= char < 127 for char in extension):
        raise FramingError("a chunk extension holds a control character")
    return int(digits, 16)
