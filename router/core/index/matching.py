"""The longest prefix that each replica holds.

The walk goes along the prompt's blocks with the set of replicas that hold all of them so far. A set of holders
is looked at only where it differs from the block before, so a long prefix that was stored in one piece costs
one comparison per block, and a hole in the middle still ends the match of the replica that has it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index.holders import CPU, DISK, GPU, OFFLOAD_PLANES, PREDICTED, Holders
from router.core.index.jit import kernel, lowest_bit
from router.core.index.table import USED, find
from router.core.types import Hashes

_ONE = np.uint64(1)


class Match(NamedTuple):
    """Blocks of a prompt that each replica holds from the start; arrays are indexed by slot.

    ``blocks`` counts every tier and predictions; ``gpu_blocks + cpu_blocks + disk_blocks`` adds up to it, each
    block in its fastest tier, a predicted one on the GPU. The arrays are fresh for each match.
    """

    blocks: NDArray[np.int32]
    gpu_blocks: NDArray[np.int32]
    cpu_blocks: NDArray[np.int32]
    disk_blocks: NDArray[np.int32]


@kernel
def match_prefix(holders: Holders, hashes: Hashes, counts: NDArray[np.int32]) -> None:
    """Fill ``counts[row, slot]``, zeros at first, with the rows of a `Match`."""
    blocks, members = holders.blocks, holders.members
    words = members.shape[2]
    alive = np.empty(words, np.uint64)
    group, run_start, block, i = 0, 0, 0, 0
    while i < len(hashes):
        block = _find_next(blocks, block, hashes[i])
        if block == 0:
            break
        held_by = np.int64(blocks.nodes[block].value)
        if held_by != group:
            _count_offloaded(members, group, alive, i - run_start, counts)
            if not _intersect(members, held_by, alive, i, counts[0]):
                break
            group, run_start = held_by, i
        i += 1
    _count_offloaded(members, group, alive, i - run_start, counts)
    if i > 0:
        for word in range(words):
            _write_members(alive[word], word, i, counts[0])
    counts[1] = counts[0] - counts[2] - counts[3]


@kernel
def _find_next(blocks, before, key):
    """Blocks stored in one piece are neighbours: try that before looking the hash up."""
    guess = before + 1
    if guess < blocks.meta[USED] and blocks.nodes[guess].key == key and blocks.nodes[guess].value != 0:
        return guess
    return find(blocks, key)


@kernel
def _write_members(bits, word, value, counts):
    while bits != 0:
        counts[word * 64 + lowest_bit(bits)] = value
        bits &= bits - _ONE


@kernel
def _intersect(members, group, alive, matched, counts):
    """Keep in ``alive`` who is in ``group`` anywhere; the others matched that many blocks. Whether any is left."""
    left = np.uint64(0)
    for word in range(len(alive)):
        held = members[group, GPU, word] | members[group, PREDICTED, word]
        if members.shape[1] == OFFLOAD_PLANES:
            held |= members[group, CPU, word] | members[group, DISK, word]
        if matched == 0:
            alive[word] = held
        else:
            _write_members(alive[word] & ~held, word, matched, counts)
            alive[word] &= held
        left |= alive[word]
    return left != 0


@kernel
def _count_offloaded(members, group, alive, run_blocks, counts):
    """Add a run of blocks of one set to the offload counts of those who hold it in no faster tier."""
    if members.shape[1] != OFFLOAD_PLANES or run_blocks == 0:
        return
    for word in range(len(alive)):
        slower = alive[word] & ~(members[group, GPU, word] | members[group, PREDICTED, word])
        while slower != 0:
            bit = slower & (~slower + _ONE)
            row = 2 if members[group, CPU, word] & bit != 0 else 3
            counts[row, word * 64 + lowest_bit(bit)] += run_blocks
            slower ^= bit
