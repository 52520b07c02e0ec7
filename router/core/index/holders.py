"""Who holds a block: interned sets of replicas.

Blocks that were computed together are held together, so among millions of blocks there are few distinct sets
of holders. Each set is stored once, and a block carries the set's number:

    blocks   block hash -> set             a `Table`; its entry is the block's number
    sets     set key -> blocks in the set  a `Table`; its entry is the set's number; 0 is the empty set
    members  [set, plane, word]            bit s of a plane: replica slot s holds the set's blocks there

A set's key is the XOR of one pseudo-random word per (plane, slot) in it (Zobrist hashing), so the set with one
member more or less is found by one XOR and one look-up, however many replicas there are.

The planes are GPU, PREDICTED, and, once a replica has reported an offload tier, CPU and DISK.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index.jit import as_int, fold_multiply, kernel
from router.core.index.table import COUNT, Table, delete, find, find_or_insert, has_room, insert, new_table

GPU = 0
PREDICTED = 1
CPU = 2
DISK = 3
ALL_PLANES = 4

WORD_BITS = 64
MAX_SLOTS = 1 << 14

FULL = -1
"""What a kernel answers when a table is full: enlarge it and call again."""

_ONE = np.uint64(1)
_PLANE_KEY = np.uint64(0xA0761D6478BD642F)
_SLOT_KEY = np.uint64(0xE7037ED1A0B428DB)


class Holders(NamedTuple):
    """See the module's drawing."""

    blocks: Table
    sets: Table
    members: NDArray[np.uint64]
    repeats: Table
    """(block, plane, slot) -> how many more engine hashes of that replica name the same block."""
    predictions: Table
    """(block, PREDICTED, slot) -> number of the newest prediction; there for each member of PREDICTED."""
    memo: NDArray[np.int64]
    """[set, slot, planes, answer] of the last `toggled`, as a run of blocks asks the same again and again. Sets come
    and go only by a `toggled` and the `move_block` that follows it, so the answer cannot outlive its sets."""
    alive: NDArray[np.uint64]
    """[word] Scratch space of a match."""

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self)


def new_holders() -> Holders:
    sets = new_table()
    return Holders(
        blocks=new_table(),
        sets=sets,
        members=np.zeros((len(sets.nodes), PREDICTED + 1, 1), np.uint64),
        repeats=new_table(),
        predictions=new_table(),
        memo=np.full(4, -1),
        alive=np.zeros(1, np.uint64),
    )


def widened(holders: Holders, planes: int = 0, words: int = 0) -> Holders:
    """The same, with members for every set that its table can take, and at least so many planes and words."""
    old = holders.members
    shape = len(holders.sets.nodes), max(planes, old.shape[1]), max(words, old.shape[2])
    members = np.zeros(shape, np.uint64)
    members[: old.shape[0], : old.shape[1], : old.shape[2]] = old
    return holders._replace(members=members, alive=np.zeros(shape[2], np.uint64))


@kernel
def is_member(holders: Holders, group: int, plane: int, slot: int) -> bool:
    """Whether set ``group`` has ``slot`` in ``plane``."""
    word = holders.members[group, plane, slot // WORD_BITS]
    return bool((word >> np.uint64(slot % WORD_BITS)) & _ONE != 0)


@kernel
def toggled(holders: Holders, group: int, slot: int, planes: int) -> int:
    """The set that differs from ``group`` by ``slot`` in ``planes`` (bit p: plane p), or FULL."""
    sets, members, memo = holders.sets, holders.members, holders.memo
    if memo[0] == group and memo[1] == slot and memo[2] == planes:
        return as_int(memo[3])
    key = sets.nodes[group].key
    for plane in range(members.shape[1]):
        if planes >> plane & 1:
            key ^= fold_multiply(_PLANE_KEY + np.uint64(plane), _SLOT_KEY ^ np.uint64(slot))
    answer = find(sets, key) if key != 0 else 0
    if answer == 0 and key != 0:
        if not has_room(sets):
            return FULL
        answer = insert(sets, key, 0)
        for plane in range(members.shape[1]):
            for word in range(members.shape[2]):
                members[answer, plane, word] = members[group, plane, word]
            if planes >> plane & 1:
                members[answer, plane, slot // WORD_BITS] ^= _ONE << np.uint64(slot % WORD_BITS)
    memo[0], memo[1], memo[2], memo[3] = group, slot, planes, answer
    return answer


@kernel
def move_block(holders: Holders, block: int, group: int) -> None:
    """Put a block into set ``group``. A set without blocks, and a block that nobody holds, are forgotten."""
    blocks, sets = holders.blocks, holders.sets
    old = as_int(blocks.nodes[block].value)
    if group == 0:
        delete(blocks, block)
    else:
        blocks.nodes[block].value = group
        sets.nodes[group].value += 1
    if old != 0:
        sets.nodes[old].value -= 1
        if sets.nodes[old].value == 0:
            delete(sets, old)


@kernel
def member_key(block: int, plane: int, slot: int) -> np.uint64:
    """Key of one replica's hold on one block, in the tables of repeats and of predictions."""
    return np.uint64((block << 16) | (slot << 2) | plane)


@kernel
def hold(holders: Holders, block: int, slot: int, plane: int) -> bool:
    """One more name of replica ``slot`` for ``block`` in ``plane``; on the GPU it settles a prediction.

    False: a table is full and nothing was done.
    """
    group = as_int(holders.blocks.nodes[block].value)
    if is_member(holders, group, plane, slot):
        return _hold_again(holders.repeats, member_key(block, plane, slot))
    planes = 1 << plane
    settles = plane == GPU and is_member(holders, group, PREDICTED, slot)
    if settles:
        planes |= 1 << PREDICTED
    joined = toggled(holders, group, slot, planes)
    if joined == FULL:
        return False
    if settles:
        delete(holders.predictions, find(holders.predictions, member_key(block, PREDICTED, slot)))
    move_block(holders, block, joined)
    return True


@kernel
def _hold_again(repeats: Table, key: np.uint64) -> bool:
    if not has_room(repeats):
        return False
    entry = find_or_insert(repeats, key)
    repeats.nodes[entry].value += 1
    return True


@kernel
def release(holders: Holders, block: int, slot: int, plane: int) -> bool:
    """Undo one `hold`. False: a table is full and nothing was done."""
    repeats = holders.repeats
    if repeats.meta[COUNT] != 0:
        entry = find(repeats, member_key(block, plane, slot))
        if entry != 0:
            repeats.nodes[entry].value -= 1
            if repeats.nodes[entry].value == 0:
                delete(repeats, entry)
            return True
    left = toggled(holders, as_int(holders.blocks.nodes[block].value), slot, 1 << plane)
    if left == FULL:
        return False
    move_block(holders, block, left)
    return True
