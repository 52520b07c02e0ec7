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
from router.core.index.jit import as_int, kernel
from router.core.index.table import (
    USED,
    Table,
    delete,
    empty,
    fetch_bucket,
    fetch_entry,
    find,
    has_room,
    insert,
    new_table,
)
from router.core.types import Hashes

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

LOOK_AHEAD = 12

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
    plan: NDArray[np.uint64]
    """Hashes of the blocks ahead of the cursor, in a ring."""


def new_progress() -> Progress:
    return Progress(np.zeros(2, np.int64), np.zeros(TALLIES, np.int64), np.zeros(LOOK_AHEAD, np.uint64))


@kernel
def plane_of(tier: int) -> int:
    return GPU if tier == 0 else CPU + tier - 1


@kernel
def apply_events(holders: Holders, owned: EngineBlocks, slot: int, batch: EventArrays, progress: Progress) -> bool:
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
    cursor, tally, plan = progress.cursor, progress.tally, progress.plan
    entries, refs, blocks = owned.entries, owned.refs, holders.blocks
    event = batch.events[cursor[EVENT_CURSOR]]
    size, tier = as_int(event.block_size), as_int(event.tier)
    has_media = len(batch.media) != 0
    begin = cursor[BLOCK_CURSOR]

    known = True
    chain = event.seed
    if begin != 0 or event.has_parent:
        parent = batch.engine_hashes[event.first_block + begin - 1] if begin != 0 else event.parent
        entry = find(entries, parent)
        known = entry != 0
        if known:
            chain = blocks.nodes[entries.nodes[entry].value].key
    chained = known and size != 0
    planned = begin

    for i in range(begin, event.blocks):
        cursor[BLOCK_CURSOR] = i
        at = event.first_block + i
        engine_hash = batch.engine_hashes[at]
        _fetch_ahead(entries, batch.engine_hashes, at)
        if chained:
            while planned < min(i + LOOK_AHEAD, event.blocks):
                media_key = batch.media[event.first_block + planned] if has_media else np.uint64(0)
                chain = hash_block(batch.token_ids, event.first_token + planned * size, size, chain, media_key)
                plan[planned % LOOK_AHEAD] = chain
                fetch_bucket(blocks, chain)
                planned += 1
            if i + 8 < planned:
                fetch_entry(blocks, plan[(i + 8) % LOOK_AHEAD], 0)
                fetch_entry(blocks, plan[(i + 4) % LOOK_AHEAD], 1)
        entry = find(entries, engine_hash)
        if entry != 0:
            block = as_int(entries.nodes[entry].value)
            if size != 0 and not (chained and plan[i % LOOK_AHEAD] == blocks.nodes[block].key):
                chained, chain, planned = True, blocks.nodes[block].key, i + 1
        elif chained:
            if not (has_room(entries) and has_room(blocks)):
                return False
            block_hash = plan[i % LOOK_AHEAD]
            block = find(blocks, block_hash)
            if block == 0:
                block = insert(blocks, block_hash, 0)
            entry = insert(entries, engine_hash, block)
            for t in range(refs.shape[1]):
                refs[entry, t] = 0
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
def _fetch_ahead(entries: Table, engine_hashes: Hashes, at: int) -> None:
    if at + 12 < len(engine_hashes):
        fetch_bucket(entries, engine_hashes[at + 12])
        fetch_entry(entries, engine_hashes[at + 8], 0)
        fetch_entry(entries, engine_hashes[at + 4], 1)


@kernel
def _remove(holders: Holders, owned: EngineBlocks, slot: int, batch: EventArrays, progress: Progress) -> bool:
    cursor, tally = progress.cursor, progress.tally
    entries, refs = owned.entries, owned.refs
    event = batch.events[cursor[EVENT_CURSOR]]
    tier = as_int(event.tier)
    for i in range(cursor[BLOCK_CURSOR], event.blocks):
        cursor[BLOCK_CURSOR] = i
        entry = find(entries, batch.engine_hashes[event.first_block + i])
        if entry == 0 or refs[entry, tier] == 0:
            tally[UNKNOWN_REMOVED] += 1
            continue
        block = as_int(entries.nodes[entry].value)
        if refs[entry, tier] == 1 and not release(holders, block, slot, plane_of(tier)):
            return False
        refs[entry, tier] -= 1
        tally[REMOVED_BLOCKS] += 1
        held = np.uint16(0)
        for t in range(refs.shape[1]):
            held |= refs[entry, t]
        if held == 0:
            delete(entries, entry)
    return True


@kernel
def release_all(holders: Holders, owned: EngineBlocks, slot: int) -> bool:
    """Forget every reported block of a replica. False: a table is full; call again to go on."""
    entries, refs = owned.entries, owned.refs
    for entry in range(1, entries.meta[USED]):
        block = as_int(entries.nodes[entry].value)
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
