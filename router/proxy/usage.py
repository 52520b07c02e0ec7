"""What an answer cost, read from its last bytes.

vLLM says it once, near the end: in the body of an unstreamed answer, in the last event of a stream that asked
for it. So only the tail is searched, once per answer, and only the ``usage`` object itself is decoded.
"""

from __future__ import annotations

import msgspec

from router.core.types import Usage

USAGE_KEY = b'"usage":'
_MAX_KEYS = 8
_MAX_BRACES = 8
"""Bounds on the search, far above what an answer holds."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Fields(msgspec.Struct):
    """Chat and completions say prompt and completion, responses and Anthropic's messages input and output."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None


_decoder = msgspec.json.Decoder(_Fields)


def find_usage(tail: bytes) -> Usage | None:
    """The last ``usage`` object in ``tail``, which may hold chunk framing; None when there is none.

    A quotation mark inside a JSON string is escaped, so generated text cannot be taken for the key.
    """
    found = last_usage(tail, len(tail))
    return None if found is None else _read(tail[found[0] : found[1]])


def last_usage(data: bytes, before: int) -> tuple[int, int] | None:
    """Where the last ``usage`` object that ``data`` has before an index begins and ends; None when there is none."""
    for _ in range(_MAX_KEYS):
        before = data.rfind(USAGE_KEY, 0, before)
        if before < 0:
            return None
        found = _object_at(data, before + len(USAGE_KEY))
        if found is not None:
            return found
    return None


def _object_at(data: bytes, before: int) -> tuple[int, int] | None:
    """Where the JSON object that follows ``before``, maybe after spaces, begins and ends; usage holds no strings, so
    braces can be counted."""
    start = data.find(b"{", before)
    if start < 0 or data[before:start].strip():
        return None
    end = start
    for _ in range(_MAX_BRACES):
        end = data.find(b"}", end) + 1
        if end == 0:
            return None
        if data.count(b"{", start, end) == data.count(b"}", start, end):
            return start, end
    return None


def _read(raw: bytes) -> Usage | None:
    try:
        fields = _decoder.decode(raw)
    except msgspec.DecodeError:
        return None
    details = fields.prompt_tokens_details or fields.input_tokens_details
    return Usage(
        prompt_tokens=fields.input_tokens if fields.prompt_tokens is None else fields.prompt_tokens,
        cached_tokens=fields.cache_read_input_tokens if details is None else details.cached_tokens,
        completion_tokens=fields.output_tokens if fields.completion_tokens is None else fields.completion_tokens,
    )
