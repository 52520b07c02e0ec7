"""Server-sent events, as far as the proxy writes or recognises them itself."""

from __future__ import annotations

from router.errors import ApiError

_MESSAGES_PATH = "/v1/messages"


def error_ending(path: str, error: ApiError) -> bytes:
    """The events that end a stream whose replica failed.

    Anthropic's clients heed named events only, and know no ``[DONE]``.
    """
    if path.startswith(_MESSAGES_PATH):
        body = error.body()
        return b'event: error\ndata: {"type":"error",' + body[1:] + b"\n\n"
    return b"data: " + error.body() + b"\n\ndata: [DONE]\n\n"


def ends_in_error(tail: bytes) -> bool:
    """Whether the last events of a stream, chunk framing and all, say that it failed."""
    return b'\ndata: {"error":' in tail or b"\nevent: error" in tail


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"
