"""The longest prefix that each replica holds.

The walk goes along the prompt's blocks with the set of replicas that hold all of them so far. A set of holders
is looked at only where it differs from the block before, so a long prefix that was stored in one piece costs
one comparison per block, and a hole in the middle still ends the match of the replica that has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core.index.holders import ALL_PLANES, CPU, DISK, GPU, PREDICTED, WORD_BITS, Holders
from router.core.index.jit import as_int, kernel, lowest_bit
from router.core.index.table import USED, Table, find
from router.core.types import Hashes

BLOCKS = 0
ON_GPU = 1
ON_CPU = 2
ON_DISK = 3

_ONE = np.uint64(1)


class Match:
    """Blocks of a prompt that each replica holds from the start; arrays are indexed by slot.

    ``blocks`` counts every tier and predictions; ``gpu_blocks + cpu_blocks + disk_blocks`` adds up to it, each
    block in its fastest tier, a predicted one on the GPU. The arrays are fresh for each match.
    """

    __slots__ = ("counts",)

    def __init__(self, counts: NDArray[np.int32]) -> None:
        self.counts = counts
        """Rows for all four, in the order in which they are named above."""

    @property
    def blocks(self) -> NDArray[np.int32]:
        return _row(self.counts, BLOCKS)

    @property
    def gpu_blocks(self) -> NDArray[np.int32]:
        return _row(self.counts, ON_GPU)

    @property
    def cpu_blocks(self) -> NDArray[np.int32]:
        return _row(self.counts, ON_CPU)

    @property
    def disk_blocks(self) -> NDArray[np.int32]:
        return _row(self.counts, ON_DISK)


def _row(counts: NDArray[np.int32], row: int) -> NDArray[np.int32]:
    values: NDArray[np.int32] = counts[row]
    return values


@kernel
def match_prefix(holders: Holders, hashes: Hashes, counts: NDArray[np.int32]) -> None:
    """Fill ``counts[row, slot]``, zeros at first, with the rows of a `Match`."""
    blocks, alive = holders.blocks, holders.alive
    block, group, matched, run_start = 0, 0, 0, 0
    while matched < len(hashes):
        block = _find_next(blocks, block, hashes[matched])
        if block == 0:
            break
        held_by = as_int(blocks.nodes[block].value)
        if held_by != group:
            _count_offloaded(holders, group, matched - run_start, counts)
            if not _intersect(holders, held_by, matched, counts):
                break
            group, run_start = held_by, matched
        matched += 1
    if group != 0:
        _count_offloaded(holders, group, matched - run_start, counts)
        for word in range(len(alive)):
            _set_counts(counts, BLOCKS, word, alive[word], matched)
    for slot in range(len(alive) * WORD_BITS):
        counts[ON_GPU, slot] = counts[BLOCKS, slot] - counts[ON_CPU, slot] - counts[ON_DISK, slot]


@kernel
def _find_next(blocks: Table, before: int, block_hash: np.uint64) -> int:
    """Blocks that were stored in one piece are neighbours: try that before looking the hash up."""
    guess = before + 1
    if guess < blocks.meta[USED] and blocks.nodes[guess].key == block_hash and blocks.nodes[guess].value != 0:
        return guess
    return find(blocks, block_hash)


@kernel
def _intersect(holders: Holders, group: int, matched: int, counts: NDArray[np.int32]) -> bool:
    """Keep alive who is in ``group`` anywhere; the others have matched that many blocks. Whether any is left."""
    members, alive = holders.members, holders.alive
    left = np.uint64(0)
    for word in range(len(alive)):
        held = members[group, GPU, word] | members[group, PREDICTED, word]
        if members.shape[1] == ALL_PLANES:
            held |= members[group, CPU, word] | members[group, DISK, word]
        if matched == 0:
            alive[word] = held
        else:
            _set_counts(counts, BLOCKS, word, alive[word] & ~held, matched)
            alive[word] &= held
        left |= alive[word]
    return bool(left != 0)


@kernel
def _set_counts(counts: NDArray[np.int32], row: int, word: int, bits: np.uint64, value: int) -> None:
    while bits != 0:
        counts[row, word * WORD_BITS + lowest_bit(bits)] = value
        bits &= bits - _ONE


@kernel
def _count_offloaded(holders: Holders, group: int, run_blocks: int, counts: NDArray[np.int32]) -> None:
    """Add a run of blocks of one set to the offload counts of those who hold it in no faster tier."""
    members, alive = holders.members, holders.alive
    if members.shape[1] != ALL_PLANES or run_blocks == 0:
        return
    for word in range(len(alive)):
        slower = alive[word] & ~(members[group, GPU, word] | members[group, PREDICTED, word])
        while slower != 0:
            lowest = slower & (~slower + _ONE)
            row = ON_CPU if members[group, CPU, word] & lowest != 0 else ON_DISK
            counts[row, word * WORD_BITS + lowest_bit(lowest)] += run_blocks
            slower ^= lowest
