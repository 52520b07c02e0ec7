"""What the router itself knows of a replica's blocks: what it sent there.

*Predicted*: entered when a request is dispatched, gone after a few seconds unless the replica reports the block.
*Remembered*: for replicas that report nothing, the last ``capacity`` blocks of all prompts sent there. The order
is that of the engine's own cache: least recently used first, and of one prompt the last block first.

    known  block hash -> block            a `Table`, one for each replica
    links  [entry, OLDER or NEWER]        a ring through the entries; entry 0 stands between newest and oldest
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index.holders import (
    FULL,
    GPU,
    PREDICTED,
    Holders,
    hold,
    is_member,
    member_key,
    move_block,
    release,
    toggled,
)
from router.core.index.jit import as_int, kernel
from router.core.index.table import COUNT, Table, delete, find, find_or_insert, has_room, insert, new_table
from router.core.types import Hashes

OLDER = 0
NEWER = 1


class History(NamedTuple):
    """See the module's drawing."""

    known: Table
    links: NDArray[np.uint32]

    @property
    def nbytes(self) -> int:
        return self.known.nbytes + self.links.nbytes


def new_history() -> History:
    known = new_table()
    return History(known, np.zeros((len(known.nodes), 2), np.uint32))


@kernel
def predict_blocks(holders: Holders, slot: int, hashes: Hashes, number: int) -> bool:
    """Enter as prediction ``number`` what the replica does not hold on its GPU. False: a table is full."""
    blocks, predictions = holders.blocks, holders.predictions
    for i in range(len(hashes)):
        if not (has_room(blocks) and has_room(predictions)):
            return False
        block = find_or_insert(blocks, hashes[i])
        group = as_int(blocks.nodes[block].value)
        if is_member(holders, group, GPU, slot):
            continue
        key = member_key(block, PREDICTED, slot)
        if is_member(holders, group, PREDICTED, slot):
            predictions.nodes[find(predictions, key)].value = number
            continue
        joined = toggled(holders, group, slot, 1 << PREDICTED)
        if joined == FULL:
            return False
        move_block(holders, block, joined)
        insert(predictions, key, number)
    return True


@kernel
def expire_blocks(holders: Holders, slot: int, hashes: Hashes, number: int) -> bool:
    """Withdraw what is left of prediction ``number``. False: a table is full; call again to go on."""
    blocks, predictions = holders.blocks, holders.predictions
    for i in range(len(hashes)):
        block = find(blocks, hashes[i])
        if block == 0:
            continue
        entry = find(predictions, member_key(block, PREDICTED, slot))
        if entry == 0 or predictions.nodes[entry].value != number:
            continue
        left = toggled(holders, as_int(blocks.nodes[block].value), slot, 1 << PREDICTED)
        if left == FULL:
            return False
        delete(predictions, entry)
        move_block(holders, block, left)
    return True


@kernel
def remember_blocks(holders: Holders, history: History, slot: int, hashes: Hashes, capacity: int) -> bool:
    """Make a prompt's blocks the newest of the history. False: a table is full; call again to go on."""
    blocks, known = holders.blocks, history.known
    for i in range(min(len(hashes), capacity) - 1, -1, -1):
        entry = find(known, hashes[i])
        if entry == 0:
            if not (has_room(blocks) and has_room(known)):
                return False
            block = find_or_insert(blocks, hashes[i])
            if not hold(holders, block, slot, GPU):
                return False
            entry = insert(known, hashes[i], block)
        else:
            _unlink(history.links, entry)
        _link_newest(history.links, entry)
    return forget_oldest(holders, history, slot, capacity)


@kernel
def forget_oldest(holders: Holders, history: History, slot: int, capacity: int) -> bool:
    """Keep the newest ``capacity`` blocks. False: a table is full; call again to go on."""
    known, links = history.known, history.links
    while known.meta[COUNT] > capacity:
        oldest = as_int(links[0, NEWER])
        if not release(holders, as_int(known.nodes[oldest].value), slot, GPU):
            return False
        _unlink(links, oldest)
        delete(known, oldest)
    return True


@kernel
def _unlink(links: NDArray[np.uint32], entry: int) -> None:
    older, newer = links[entry, OLDER], links[entry, NEWER]
    links[older, NEWER] = newer
    links[newer, OLDER] = older


@kernel
def _link_newest(links: NDArray[np.uint32], entry: int) -> None:
    newest = links[0, OLDER]
    links[entry, OLDER] = newest
    links[entry, NEWER] = 0
    links[newest, NEWER] = entry
    links[0, OLDER] = entry


def remembered_hashes(history: History) -> Hashes:
    """Hashes of the history, newest first."""
    hashes = np.empty(history.known.size, np.uint64)
    _walk(history, hashes)
    return hashes


@kernel
def _walk(history: History, hashes: Hashes) -> None:
    entry = as_int(history.links[0, OLDER])
    for i in range(len(hashes)):
        hashes[i] = history.known.nodes[entry].key
        entry = as_int(history.links[entry, OLDER])
