"""Applying a replica's KV events: its engine hashes, mapped to blocks.

    entries  engine hash -> block     a `Table`, one for each replica
    refs     [entry, tier]            how often the engine stored that hash in the tier and did not remove it

Engine hashes are opaque: a stored event gives token ids and a parent, from which the block's own hash follows.
An engine may store one hash several times (two requests computed the same block side by side); it removes it
as often.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index.batch import CLEARED, REMOVED, EventArrays
from router.core.index.hashing import hash_block
from router.core.index.holders import CPU, GPU, Holders, hold, release
from router.core.index.jit import kernel
from router.core.index.table import USED, Table, delete, empty, find, has_room, insert, new_table

TIERS = 3
_MAX_REFS = 65535

STORED_BLOCKS = 0
REMOVED_BLOCKS = 1
CLEARS = 2
UNKNOWN_PARENTS = 3
ORPHANED_BLOCKS = 4
UNKNOWN_OFFLOADED = 5
UNKNOWN_REMOVED = 6
TALLIES = 7

EVENT_CURSOR = 0
BLOCK_CURSOR = 1


class EngineBlocks(NamedTuple):
    """One replica's half of the index; see the module's drawing."""

    entries: Table
    refs: NDArray[np.uint16]

    @property
    def nbytes(self) -> int:
        return self.entries.nbytes + self.refs.nbytes


def new_engine_blocks() -> EngineBlocks:
    entries = new_table()
    return EngineBlocks(entries, np.zeros((len(entries.nodes), 1), np.uint16))


def with_tiers(owned: EngineBlocks) -> EngineBlocks:
    """The same, able to count references in the offload tiers."""
    refs = np.zeros((len(owned.refs), TIERS), np.uint16)
    refs[:, : owned.refs.shape[1]] = owned.refs
    return owned._replace(refs=refs)


class Progress(NamedTuple):
    """How far a batch has been applied, and what it did: one value per constant above."""

    cursor: NDArray[np.int64]
    tally: NDArray[np.int64]


def new_progress() -> Progress:
    return Progress(np.zeros(2, np.int64), np.zeros(TALLIES, np.int64))


@kernel
def plane_of(tier: int) -> int:
    return GPU if tier == 0 else CPU + tier - 1


@kernel
def apply_events(
    holders: Holders, owned: EngineBlocks, slot: int, batch: EventArrays, progress: Progress
) -> bool:
    """Apply the events from the cursor on. False: a table is full; enlarge it and call again to go on."""
    cursor = progress.cursor
    while cursor[EVENT_CURSOR] < len(batch.events):
        kind = batch.events[cursor[EVENT_CURSOR]].kind
        if kind == CLEARED:
            finished = release_all(holders, owned, slot)
            progress.tally[CLEARS] += finished
        elif kind == REMOVED:
            finished = _remove(holders, owned, slot, batch, progress)
        else:
            finished = _store(holders, owned, slot, batch, progress)
        if not finished:
            return False
        cursor[EVENT_CURSOR] += 1
        cursor[BLOCK_CURSOR] = 0
    return True


@kernel
def _store(holders: Holders, owned: EngineBlocks, slot: int, batch: EventArrays, progress: Progress) -> bool:
    cursor, tally = progress.cursor, progress.tally
    entries, refs, blocks = owned.entries, owned.refs, holders.blocks
    event = batch.events[cursor[EVENT_CURSOR]]
    size, tier = np.int64(event.block_size), np.int64(event.tier)
    has_media = len(batch.media) != 0
    begin = cursor[BLOCK_CURSOR]

    parent_hash = event.seed
    chained = size != 0
    if begin != 0 or event.has_parent:
        parent = batch.engine_hashes[event.first_block + begin - 1] if begin != 0 else event.parent
        entry = find(entries, parent)
        chained = chained and entry != 0
        if entry != 0:
            parent_hash = blocks.nodes[entries.nodes[entry].value].key

    for i in range(begin, event.blocks):
        cursor[BLOCK_CURSOR] = i
        at = event.first_block + i
        engine_hash = batch.engine_hashes[at]
        entry = find(entries, engine_hash)
        if entry != 0:
            block = np.int64(entries.nodes[entry].value)
            parent_hash = blocks.nodes[block].key
            chained = size != 0
        elif chained:
            if not (has_room(entries) and has_room(blocks)):
                return False
            media_key = batch.media[at] if has_media else np.uint64(0)
            first_token = event.first_token + i * size
            parent_hash = hash_block(batch.token_ids, first_token, size, parent_hash, media_key)
            block = find(blocks, parent_hash)
            if block == 0:
                block = insert(blocks, parent_hash, 0)
            entry = insert(entries, engine_hash, block)
            refs[entry] = 0
        elif size == 0:
            tally[UNKNOWN_OFFLOADED] += 1
            continue
        else:
            tally[ORPHANED_BLOCKS] += 1
            tally[UNKNOWN_PARENTS] += i == 0
            continue
        if refs[entry, tier] == 0 and not hold(holders, block, slot, plane_of(tier)):
            return False
        refs[entry, tier] += refs[entry, tier] < _MAX_REFS
        tally[STORED_BLOCKS] += 1
    return True


@kernel
def _remove(holders: Holders, owned: EngineBlocks, slot: int, batch: EventArrays, progress: Progress) -> bool:
    cursor, tally = progress.cursor, progress.tally
    entries, refs = owned.entries, owned.refs
    event = batch.events[cursor[EVENT_CURSOR]]
    tier = np.int64(event.tier)
    for i in range(cursor[BLOCK_CURSOR], event.blocks):
        cursor[BLOCK_CURSOR] = i
        entry = find(entries, batch.engine_hashes[event.first_block + i])
        if entry == 0 or refs[entry, tier] == 0:
            tally[UNKNOWN_REMOVED] += 1
            continue
        block = np.int64(entries.nodes[entry].value)
        if refs[entry, tier] == 1 and not release(holders, block, slot, plane_of(tier)):
            return False
        refs[entry, tier] -= 1
        tally[REMOVED_BLOCKS] += 1
        if not refs[entry].any():
            delete(entries, entry)
    return True


@kernel
def release_all(holders: Holders, owned: EngineBlocks, slot: int) -> bool:
    """Forget every reported block of a replica. False: a table is full; call again to go on."""
    entries, refs = owned.entries, owned.refs
    for entry in range(1, entries.meta[USED]):
        block = np.int64(entries.nodes[entry].value)
        if block == 0:
            continue
        for tier in range(refs.shape[1]):
            if refs[entry, tier] != 0:
                if not release(holders, block, slot, plane_of(tier)):
                    return False
                refs[entry, tier] = 0
        entries.nodes[entry].value = 0
    empty(entries)
    return True
