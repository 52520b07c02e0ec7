"""Arrays of integers, read from msgpack by a kernel: a Python object per token id would cost more than all else.

A decoder hands over, for many events at once, the undecoded ``block_hashes`` and ``token_ids`` values, each kind
joined into one buffer in the order of the event rows. msgspec has checked that they are whole msgpack values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core.index.batch import EVENT, STORED
from router.core.index.jit import as_int, entry_point, kernel

MALFORMED = -1

_ARRAY_16 = 0xDC
_ARRAY_32 = 0xDD
_BIN_8 = 0xC4
_BIN_32 = 0xC6
_UINT_8 = 0xCC
_INT_8 = 0xD0


@kernel
def _fill_events(
    events: NDArray[np.void],
    hash_bytes: NDArray[np.uint8],
    token_bytes: NDArray[np.uint8],
    source: NDArray[np.int32],
    engine_hashes: NDArray[np.uint64],
    token_ids: NDArray[np.uint32],
    used: NDArray[np.int64],
) -> int:
    kept, hashes, tokens, hash_at, token_at = 0, 0, 0, 0, 0
    for row in range(len(events)):
        first_block, first_token = hashes, tokens
        hash_at, hashes = _read_hashes(hash_bytes, hash_at, engine_hashes, hashes)
        if hash_at == MALFORMED:
            return MALFORMED
        if events[row].kind == STORED:
            token_at, tokens = _read_tokens(token_bytes, token_at, token_ids, tokens)
            if token_at == MALFORMED:
                return MALFORMED
            if tokens == first_token:
                events[row].block_size = 0
            if tokens - first_token != (hashes - first_block) * events[row].block_size:
                hashes, tokens = first_block, first_token
                continue
        events[kept] = events[row]
        events[kept].first_block = first_block
        events[kept].first_token = first_token
        events[kept].blocks = hashes - first_block
        source[kept] = row
        kept += 1
    used[0], used[1] = hashes, tokens
    return kept


@kernel
def _read_length(data: NDArray[np.uint8], at: int) -> tuple[int, int]:
    """(position after an array's header, its length), or (MALFORMED, 0)."""
    if at >= len(data):
        return MALFORMED, 0
    code = as_int(data[at])
    if code & 0xF0 == 0x90:
        return at + 1, code & 0x0F
    if code == _ARRAY_16 and at + 3 <= len(data):
        return at + 3, as_int(_read_bytes(data, at + 1, 2))
    if code == _ARRAY_32 and at + 5 <= len(data):
        return at + 5, as_int(_read_bytes(data, at + 1, 4))
    return MALFORMED, 0


@kernel
def _read_bytes(data: NDArray[np.uint8], at: int, size: int) -> np.uint64:
    """A big-endian unsigned integer."""
    value = np.uint64(0)
    for i in range(at, at + size):
        value = value << np.uint64(8) | np.uint64(data[i])
    return value


@kernel
def _read_integer(data: NDArray[np.uint8], at: int) -> tuple[int, np.uint64]:
    """(position after it, its low 64 bits), or (MALFORMED, 0)."""
    code = as_int(data[at])
    if code < 0x80:
        return at + 1, np.uint64(code)
    if code >= 0xE0:
        return at + 1, np.uint64(code - 0x100)
    if _UINT_8 <= code < _UINT_8 + 8:
        size = 1 << ((code - _UINT_8) & 3)
        if at + 1 + size > len(data):
            return MALFORMED, np.uint64(0)
        value = _read_bytes(data, at + 1, size)
        if code >= _INT_8:
            unused = np.uint64(64 - 8 * size)
            value = np.uint64(as_int(value << unused) >> as_int(unused))
        return at + 1 + size, value
    return MALFORMED, np.uint64(0)


@kernel
def _read_hash(data: NDArray[np.uint8], at: int) -> tuple[int, np.uint64]:
    """An integer, or the last eight bytes of a byte string."""
    code = as_int(data[at])
    if not _BIN_8 <= code <= _BIN_32:
        return _read_integer(data, at)
    width = 1 << (code - _BIN_8)
    if at + 1 + width > len(data):
        return MALFORMED, np.uint64(0)
    start = at + 1 + width
    end = start + as_int(_read_bytes(data, at + 1, width))
    if end > len(data):
        return MALFORMED, np.uint64(0)
    last = max(start, end - 8)
    return end, _read_bytes(data, last, end - last)


@kernel
def _read_hashes(data: NDArray[np.uint8], at: int, hashes: NDArray[np.uint64], filled: int) -> tuple[int, int]:
    at, length = _read_length(data, at)
    for _ in range(length):
        if at >= len(data):
            return MALFORMED, filled
        at, value = _read_hash(data, at)
        if at == MALFORMED:
            return MALFORMED, filled
        hashes[filled] = value
        filled += 1
    return at, filled


@kernel
def _read_tokens(data: NDArray[np.uint8], at: int, tokens: NDArray[np.uint32], filled: int) -> tuple[int, int]:
    at, length = _read_length(data, at)
    for _ in range(length):
        if at >= len(data):
            return MALFORMED, filled
        at, value = _read_integer(data, at)
        if at == MALFORMED or value >> np.uint64(32) != 0:
            return MALFORMED, filled
        tokens[filled] = value
        filled += 1
    return at, filled


fill_events = entry_point(
    _fill_events,
    np.empty(0, EVENT),
    np.empty(0, np.uint8),
    np.empty(0, np.uint8),
    np.empty(0, np.int32),
    np.empty(0, np.uint64),
    np.empty(0, np.uint32),
    np.empty(0, np.int64),
)
"""Fill in what the event rows lack: blocks, first_block, first_token, and the two arrays.

Rows whose token ids are not ``block_size`` for each hash are dropped, the others move up; ``source`` tells from
which row each came. Returns how many rows are left, or MALFORMED; ``used`` is set to the number of hashes, of
token ids. The two arrays must be as long as the byte arrays.
"""
