"""The one hash table of the index: 64-bit key -> 32-bit value, with an index per entry that never moves.

    heads  [ 0 | 3 | 0 | 1 | ... ]           first entry of each bucket's chain; 0 ends a chain
    nodes  [ - | key value next | ... ]      entry 0 is not used; a free entry has value 0 and is on a free list
    meta   [ used, free, count, buckets, mask ]

Growth is linear hashing (W. Litwin, VLDB 1980): one bucket is split when one more is due, so there is never a
rehash, hence no pause, and memory follows the number of entries. A deleted entry leaves nothing behind. Only
``nodes`` and ``heads`` themselves are ever enlarged (`enlarge`), in place, when a kernel reports that one is full.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index.jit import as_int, kernel, prefetch

NODE = np.dtype([("key", np.uint64), ("value", np.uint32), ("next", np.uint32)], align=True)

USED = 0
"""Entries ever used, entry 0 included: where the next fresh one is taken."""
FREE = 1
"""First entry of the free list, 0 when empty."""
COUNT = 2
BUCKETS = 3
MASK = 4
"""2^k - 1 >= buckets - 1, for the smallest such k."""

_LOAD = 2
"""Entries per bucket."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_FIRST_NODES = 64
_LEAST_GROWTH = 128


class Table(NamedTuple):
    """See the module's drawing. An empty table costs about 1 KiB."""

    nodes: NDArray[np.void]
    heads: NDArray[np.uint32]
    meta: NDArray[np.int64]

    @property
    def size(self) -> int:
        return int(self.meta[COUNT])

    @property
    def is_full(self) -> bool:
        return self.size + 1 >= len(self.nodes)

    @property
    def nbytes(self) -> int:
        return self.nodes.nbytes + self.heads.nbytes + self.meta.nbytes


def new_table() -> Table:
    nodes = np.zeros(_FIRST_NODES, NODE)
    heads = np.zeros(len(nodes) // _LOAD, np.uint32)
    return Table(nodes, heads, np.array([1, 0, 0, 1, 0], np.int64))


def enlarge(table: Table) -> None:
    """Make room for about a sixteenth more entries.

    The arrays grow in place: an allocator that can, moves the pages of a large one and copies nothing.
    """
    nodes = len(table.nodes) + max(len(table.nodes) // 16, _LEAST_GROWTH)
    table.nodes.resize(nodes, refcheck=False)
    table.heads.resize(nodes // _LOAD, refcheck=False)


@kernel
def has_room(table: Table) -> bool:
    """Whether `insert` may be called."""
    return bool(table.meta[COUNT] + 1 < len(table.nodes))


@kernel
def _bucket(table: Table, key: np.uint64) -> int:
    bucket = as_int((key * _GOLDEN) >> _SHIFT) & as_int(table.meta[MASK])
    if bucket >= table.meta[BUCKETS]:
        bucket &= as_int(table.meta[MASK]) >> 1
    return bucket


@kernel
def fetch_bucket(table: Table, key: np.uint64) -> None:
    """Start loading the head of a key's chain, some look-ups before `find` needs it."""
    prefetch(table.heads, _bucket(table, key))


@kernel
def fetch_entry(table: Table, key: np.uint64, depth: int) -> None:
    """Start loading an entry of a key's chain, when those before it have arrived."""
    _fetch_chain(table, _bucket(table, key), depth)


@kernel
def _fetch_chain(table: Table, bucket: int, depth: int) -> None:
    entry = as_int(table.heads[bucket])
    for _ in range(depth):
        entry = as_int(table.nodes[entry].next)
    prefetch(table.nodes, entry)


@kernel
def find(table: Table, key: np.uint64) -> int:
    """The entry of ``key``, or 0."""
    entry = as_int(table.heads[_bucket(table, key)])
    while entry != 0 and table.nodes[entry].key != key:
        entry = as_int(table.nodes[entry].next)
    return entry


@kernel
def _split_bucket(table: Table) -> None:
    """Add one bucket, and move there what belongs to it from the bucket that stood for both."""
    nodes, heads, meta = table.nodes, table.heads, table.meta
    added = meta[BUCKETS]
    if added > meta[MASK]:
        meta[MASK] = meta[MASK] * 2 + 1
    meta[BUCKETS] = added + 1
    old = added & (meta[MASK] >> 1)
    # Buckets are split in order, so what the next splits need can be asked for now.
    if old + 8 < added:
        for depth in range(4):
            _fetch_chain(table, old + 8 - 2 * depth, depth)
    entry, stays, leaves = as_int(heads[old]), 0, 0
    while entry != 0:
        following = as_int(nodes[entry].next)
        if _bucket(table, nodes[entry].key) == added:
            nodes[entry].next = leaves
            leaves = entry
        else:
            nodes[entry].next = stays
            stays = entry
        entry = following
    heads[old] = stays
    heads[added] = leaves


@kernel
def insert(table: Table, key: np.uint64, value: int) -> int:
    """Enter a key that is not there yet; its entry. The table must have room."""
    nodes, meta = table.nodes, table.meta
    entry = as_int(meta[FREE])
    if entry != 0:
        meta[FREE] = as_int(nodes[entry].next)
    else:
        entry = as_int(meta[USED])
        meta[USED] += 1
    meta[COUNT] += 1
    if meta[COUNT] > meta[BUCKETS] * _LOAD and meta[BUCKETS] < len(table.heads):
        _split_bucket(table)
    bucket = _bucket(table, key)
    nodes[entry].key = key
    nodes[entry].value = value
    nodes[entry].next = table.heads[bucket]
    table.heads[bucket] = entry
    return entry


@kernel
def find_or_insert(table: Table, key: np.uint64) -> int:
    """The entry of ``key``, made with the value 0 if need be. The table must have room."""
    entry = find(table, key)
    return entry if entry != 0 else insert(table, key, 0)


@kernel
def delete(table: Table, entry: int) -> None:
    """Take an entry out; the next `insert` uses it again."""
    nodes, meta = table.nodes, table.meta
    following = nodes[entry].next
    bucket = _bucket(table, nodes[entry].key)
    before = as_int(table.heads[bucket])
    if before == entry:
        table.heads[bucket] = following
    else:
        while as_int(nodes[before].next) != entry:
            before = as_int(nodes[before].next)
        nodes[before].next = following
    nodes[entry].value = 0
    nodes[entry].next = meta[FREE]
    meta[FREE] = entry
    meta[COUNT] -= 1


@kernel
def empty(table: Table) -> None:
    """Delete every entry."""
    for bucket in range(table.meta[BUCKETS]):
        table.heads[bucket] = 0
    for entry in range(table.meta[USED]):
        table.nodes[entry].value = 0
    table.meta[USED] = 1
    table.meta[FREE] = 0
    table.meta[COUNT] = 0
    table.meta[BUCKETS] = 1
    table.meta[MASK] = 0
