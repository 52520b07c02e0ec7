"""The loops of the block pool, compiled: a prompt of 65,000 tokens has 4,000 blocks, and each passes here many times.

    blocks  [ - | hash refs after before twin | ... ]   a row for each block; row 0 is none, so 0 can mean "no block"
    places  [ - | hash block | - | hash block | ... ]   hash table, open addressing: the oldest block of each hash

The free queue is a ring through row 0: ``after`` and ``before`` of row 0 are its head and its tail. Blocks of the same
hash are chained by ``twin``, the oldest first. A block whose hash is 0 cannot be found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index.jit import as_int, entry_point, kernel, prefetch
from router.core.types import Hashes

Blocks = NDArray[np.int32]
"""Block numbers, in the order of the tokens in them."""
Indices = NDArray[np.int64]

BLOCK = np.dtype(
    [
        ("hash", np.uint64),  # of all tokens up to the end of the block
        ("refs", np.int32),  # requests that hold it
        ("after", np.int32),  # its neighbours in the free queue
        ("before", np.int32),
        ("twin", np.int32),  # the next younger block of the same hash
    ],
    align=True,
)
PLACE = np.dtype([("hash", np.uint64), ("block", np.int32)], align=True)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_LOOK_AHEAD = 8
"""Blocks between asking for memory and using it."""


class PoolArrays(NamedTuple):
    """See the module's drawing."""

    blocks: NDArray[np.void]
    places: NDArray[np.void]


def new_arrays(num_blocks: int) -> PoolArrays:
    """All blocks are free, in the order of their numbers; the hash table stays half empty."""
    blocks = np.zeros(num_blocks, BLOCK)
    blocks["after"] = np.roll(np.arange(num_blocks), -1)
    blocks["before"] = np.roll(np.arange(num_blocks), 1)
    return PoolArrays(blocks, np.zeros(1 << (2 * num_blocks).bit_length(), PLACE))


@kernel
def _find_prefix(pool: PoolArrays, hashes: Hashes, found: Blocks) -> int:
    """Write the blocks that hold the first hashes, as many as ``found`` has room for; how many there are."""
    for i in range(len(found)):
        _fetch_place(pool, hashes, i + _LOOK_AHEAD)
        block = pool.places[_place(pool, hashes[i])].block
        if block == 0:
            return i
        found[i] = block
    return len(found)


@kernel
def _count_free(pool: PoolArrays, blocks: Blocks) -> int:
    """How many of the blocks nobody holds."""
    free = 0
    for block in blocks:
        free += pool.blocks[block].refs == 0
    return free


@kernel
def _hold(pool: PoolArrays, blocks: Blocks) -> int:
    """Take one reference to each block; so many were free and left the queue."""
    held = 0
    for block in blocks:
        if pool.blocks[block].refs == 0:
            _leave_queue(pool, block)
            held += 1
        pool.blocks[block].refs += 1
    return held


@kernel
def _take(pool: PoolArrays, taken: Blocks, evicted: Hashes) -> int:
    """Fill ``taken`` from the head of the queue; so many hashes, written to ``evicted``, had to go.

    Where they stand in the table is asked for while the queue is walked: most of the time here is waiting for memory.
    """
    block = as_int(pool.blocks[0].after)
    for i in range(len(taken)):
        taken[i] = block
        prefetch(pool.places, _home(pool, pool.blocks[block].hash))
        block = as_int(pool.blocks[block].after)
    pool.blocks[0].after = block
    pool.blocks[block].before = 0
    gone = 0
    for block in taken:
        if pool.blocks[block].hash != 0:
            evicted[gone] = pool.blocks[block].hash
            gone += 1
            _forget(pool, block)
        pool.blocks[block].refs = 1
    return gone


@kernel
def _release(pool: PoolArrays, blocks: Blocks) -> int:
    """Give back one reference to each block, the last first; so many became free.

    Of those, the ones without a hash go to the head of the queue and the others to its tail, each in this order.
    """
    freed = last_at_head = 0
    for i in range(len(blocks) - 1, -1, -1):
        block = as_int(blocks[i])
        pool.blocks[block].refs -= 1
        if pool.blocks[block].refs != 0:
            continue
        freed += 1
        if pool.blocks[block].hash != 0:
            _join_queue(pool, block, as_int(pool.blocks[0].before))
        else:
            _join_queue(pool, block, last_at_head)
            last_at_head = block
    return freed


@kernel
def _publish(pool: PoolArrays, blocks: Blocks, hashes: Hashes) -> None:
    """Let the blocks be found, each by its hash, after older blocks of the same one."""
    for i in range(len(blocks)):
        _fetch_place(pool, hashes, i + _LOOK_AHEAD)
        block, place = blocks[i], _place(pool, hashes[i])
        pool.blocks[block].hash = hashes[i]
        older = as_int(pool.places[place].block)
        if older == 0:
            pool.places[place].hash = hashes[i]
            pool.places[place].block = block
            continue
        while pool.blocks[older].twin != 0:
            older = as_int(pool.blocks[older].twin)
        pool.blocks[older].twin = block


@kernel
def _write(
    pool: PoolArrays,
    starts: Indices,
    written: Indices,
    steps: int,
    size: int,
    blocks: Blocks,
    hashes: Hashes,
    evicted: Hashes,
) -> tuple[int, int]:
    """Let requests write a token each, ``steps`` times over; so many blocks were taken, and so many hashes had to go.

    Request i writes its blocks from ``blocks[starts[i]]`` on, the first of which has ``written[i]`` tokens; blocks of
    ``size`` tokens are taken when they are begun, and published when they are full if ``hashes`` has one for them.
    """
    taken = gone = 0
    for step in range(steps):
        for i in range(len(written)):
            token = written[i] + step
            at = starts[i] + token // size
            if token % size == 0:
                gone += _take(pool, blocks[at : at + 1], evicted[gone:])
                taken += 1
            if token % size == size - 1 and hashes[at] != 0:
                _publish(pool, blocks[at : at + 1], hashes[at : at + 1])
    return taken, gone


@kernel
def _leave_queue(pool: PoolArrays, block: int) -> None:
    after, before = as_int(pool.blocks[block].after), as_int(pool.blocks[block].before)
    pool.blocks[before].after = after
    pool.blocks[after].before = before


@kernel
def _join_queue(pool: PoolArrays, block: int, before: int) -> None:
    """Stand behind ``before``; row 0 is before the head."""
    after = as_int(pool.blocks[before].after)
    pool.blocks[block].before = before
    pool.blocks[block].after = after
    pool.blocks[before].after = block
    pool.blocks[after].before = block


@kernel
def _forget(pool: PoolArrays, block: int) -> None:
    """The block can no longer be found."""
    place = _place(pool, pool.blocks[block].hash)
    younger, older = as_int(pool.blocks[block].twin), as_int(pool.places[place].block)
    if older != block:
        while pool.blocks[older].twin != block:
            older = as_int(pool.blocks[older].twin)
        pool.blocks[older].twin = younger
    elif younger != 0:
        pool.places[place].block = younger
    else:
        _vacate(pool, place)
    pool.blocks[block].hash = 0
    pool.blocks[block].twin = 0


@kernel
def _home(pool: PoolArrays, block_hash: np.uint64) -> int:
    """Where a hash belongs if nothing else is there."""
    return as_int((block_hash * _GOLDEN) >> _SHIFT) & (len(pool.places) - 1)


@kernel
def _place(pool: PoolArrays, block_hash: np.uint64) -> int:
    """Where a hash is, or would be."""
    place = _home(pool, block_hash)
    while pool.places[place].block != 0 and pool.places[place].hash != block_hash:
        place = (place + 1) & (len(pool.places) - 1)
    return place


@kernel
def _fetch_place(pool: PoolArrays, hashes: Hashes, i: int) -> None:
    """Start loading where a hash belongs, some look-ups before it is needed."""
    if i < len(hashes):
        prefetch(pool.places, _home(pool, hashes[i]))


@kernel
def _vacate(pool: PoolArrays, place: int) -> None:
    """Empty a place, and fill the gap with what stands behind it for want of a better place (Knuth, 6.4, R)."""
    last = len(pool.places) - 1
    gap = behind = place
    while True:
        behind = (behind + 1) & last
        if pool.places[behind].block == 0:
            break
        if (behind - _home(pool, pool.places[behind].hash)) & last >= (behind - gap) & last:
            pool.places[gap].hash = pool.places[behind].hash
            pool.places[gap].block = pool.places[behind].block
            gap = behind
    pool.places[gap].block = 0


_POOL, _HASHES = new_arrays(1), np.empty(0, np.uint64)
_BLOCKS, _INDICES = np.empty(0, np.int32), np.empty(0, np.int64)
find_prefix = entry_point(_find_prefix, _POOL, _HASHES, _BLOCKS)
count_free = entry_point(_count_free, _POOL, _BLOCKS)
hold = entry_point(_hold, _POOL, _BLOCKS)
take = entry_point(_take, _POOL, _BLOCKS, _HASHES)
release = entry_point(_release, _POOL, _BLOCKS)
publish = entry_point(_publish, _POOL, _BLOCKS, _HASHES)
write = entry_point(_write, _POOL, _INDICES, _INDICES, 0, 0, _BLOCKS, _HASHES, _HASHES)
