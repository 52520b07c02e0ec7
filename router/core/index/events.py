"""Applying a replica's KV events: its engine hashes, mapped to blocks.

    entries  engine hash -> block     a `Table`, one for each replica
    refs     [entry, tier]            how often the engine stored that hash in the tier and did not remove it;
                                      zeros where there is no entry

Engine hashes are opaque: a stored event gives token ids and a parent, from which the block's own hash follows.
An engine may store one hash several times (two requests computed the same block side by side); it removes it
as often.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index.batch import CLEARED, REMOVED, EventArrays
from router.core.index.hashing import hash_block
from router.core.index.holders import CPU, GPU, Holders, hold, release
from router.core.index.jit import as_int, kernel, prefetch
from router.core.index.table import (
    USED,
    Table,
    delete,
    empty,
    fetch_bucket,
    fetch_entry,
    find,
    find_or_insert,
    has_room,
    insert,
    new_table,
)
from router.core.types import Hashes

TIERS = 3
_MAX_REFS = 65535

# The values of a tally, in the order of `Applied`.
STORED_BLOCKS = 0
REMOVED_BLOCKS = 1
CLEARS = 2
UNKNOWN_PARENTS = 3
ORPHANED_BLOCKS = 4
UNKNOWN_OFFLOADED = 5
UNKNOWN_REMOVED = 6
TALLIES = 7

LOOK_AHEAD = 16
"""Blocks. To enter one block takes half a dozen answers from memory, of 0.1 µs each when millions are held. So
they are asked for while the blocks before it are entered: the heads of its two chains this many blocks ahead,
and every four blocks later the next entry of each chain."""

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
    """The same, able to count references in every tier and not in the GPU alone."""
    refs = np.zeros((len(owned.refs), TIERS), np.uint16)
    refs[:, : owned.refs.shape[1]] = owned.refs
    return owned._replace(refs=refs)


class Progress(NamedTuple):
    """How far a batch has been applied, and what it did."""

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
    first_block, size, tier = as_int(event.first_block), as_int(event.block_size), as_int(event.tier)
    planned = as_int(cursor[BLOCK_CURSOR])
    known, block_hash = _hash_before(holders, owned, batch, event, planned)
    chained = known and size != 0

    for i in range(planned, as_int(event.blocks)):
        cursor[BLOCK_CURSOR] = i
        _fetch_entries(entries, batch.engine_hashes, first_block + i)
        if chained:
            while planned < min(i + LOOK_AHEAD, as_int(event.blocks)):
                media_key = batch.media[first_block + planned] if len(batch.media) else np.uint64(0)
                first_token = as_int(event.first_token) + planned * size
                block_hash = hash_block(batch.token_ids, first_token, size, block_hash, media_key)
                plan[planned % LOOK_AHEAD] = block_hash
                planned += 1
            _fetch_blocks(blocks, plan, i, planned)
        engine_hash = batch.engine_hashes[first_block + i]
        entry = find(entries, engine_hash)
        if entry != 0:
            block = as_int(entries.nodes[entry].value)
            if size != 0 and not (chained and plan[i % LOOK_AHEAD] == blocks.nodes[block].key):
                chained, block_hash, planned = True, blocks.nodes[block].key, i + 1
        elif chained:
            if not (has_room(entries) and has_room(blocks)):
                return False
            block = find_or_insert(blocks, plan[i % LOOK_AHEAD])
            entry = insert(entries, engine_hash, block)
        elif size == 0:
            tally[UNKNOWN_OFFLOADED] += 1
            continue
        else:
            tally[UNKNOWN_PARENTS] += i == 0
            tally[ORPHANED_BLOCKS] += 1
            continue
        if refs[entry, tier] == 0 and not hold(holders, block, slot, plane_of(tier)):
            return False
        refs[entry, tier] += refs[entry, tier] < _MAX_REFS
        tally[STORED_BLOCKS] += 1
    return True


@kernel
def _hash_before(
    holders: Holders, owned: EngineBlocks, batch: EventArrays, event: Any, i: int
) -> tuple[bool, np.uint64]:
    """Whether the block before the event's block ``i`` is known, and its hash: the seed if a prompt starts here."""
    if i == 0 and not event.has_parent:
        return True, event.seed
    entry = find(owned.entries, batch.engine_hashes[event.first_block + i - 1] if i != 0 else event.parent)
    if entry == 0:
        return False, event.seed
    return True, holders.blocks.nodes[owned.entries.nodes[entry].value].key


@kernel
def _fetch_blocks(blocks: Table, plan: NDArray[np.uint64], i: int, planned: int) -> None:
    """Ask for what the blocks after ``i`` need of the table of blocks; `LOOK_AHEAD` of them are planned."""
    if i + LOOK_AHEAD == planned:
        fetch_bucket(blocks, plan[(planned - 1) % LOOK_AHEAD])
        for depth in range(3):
            fetch_entry(blocks, plan[(i + 12 - 4 * depth) % LOOK_AHEAD], depth)


@kernel
def _fetch_entries(entries: Table, engine_hashes: Hashes, at: int) -> None:
    """Ask for what the engine hashes after ``at`` need, those of later events included."""
    if at + LOOK_AHEAD < len(engine_hashes):
        fetch_bucket(entries, engine_hashes[at + LOOK_AHEAD])
        for depth in range(3):
            fetch_entry(entries, engine_hashes[at + 12 - 4 * depth], depth)


@kernel
def _remove(holders: Holders, owned: EngineBlocks, slot: int, batch: EventArrays, progress: Progress) -> bool:
    cursor, tally = progress.cursor, progress.tally
    entries, refs = owned.entries, owned.refs
    event = batch.events[cursor[EVENT_CURSOR]]
    tier = as_int(event.tier)
    for i in range(cursor[BLOCK_CURSOR], event.blocks):
        cursor[BLOCK_CURSOR] = i
        _fetch_entries(entries, batch.engine_hashes, event.first_block + i)
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
        _fetch_owned(holders.blocks, entries, entry)
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


@kernel
def _fetch_owned(blocks: Table, entries: Table, entry: int) -> None:
    """Ask for what it takes to release the entries after ``entry``."""
    if entry + LOOK_AHEAD < entries.meta[USED]:
        prefetch(blocks.nodes, as_int(entries.nodes[entry + LOOK_AHEAD].value))
        fetch_bucket(blocks, blocks.nodes[entries.nodes[entry + 12].value].key)
        for depth in range(2):
            fetch_entry(blocks, blocks.nodes[entries.nodes[entry + 8 - 4 * depth].value].key, depth)
