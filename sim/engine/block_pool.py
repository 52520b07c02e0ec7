"""The KV blocks of one replica: who holds them, and which can be found by hash.

A block is a small integer. Free blocks stand in a queue; a free block keeps its hash, and so remains a hit, until
it comes to the head of the queue and is taken for other tokens. So the queue is the LRU list of the prefix cache:

    head                                             tail
    [without hash, last freed first][hashed, least recently freed first]

The arrays, and the loops over them, are in ``sim.engine.kernels``.
"""

from __future__ import annotations

import numpy as np

from router.core.types import Hashes
from sim.engine import kernels
from sim.engine.kernels import Blocks, Indices

NO_BLOCKS: Blocks = np.empty(0, np.int32)
NO_HASHES: Hashes = np.empty(0, np.uint64)


class BlockPool:
    """Counts references, keeps the free queue, finds blocks by hash."""

    __slots__ = ("_arrays", "_scratch_blocks", "_scratch_hashes", "capacity", "free_blocks")

    def __init__(self, num_blocks: int) -> None:
        """``num_blocks`` includes block 0, the null block, which is never handed out."""
        self.capacity = num_blocks - 1
        self.free_blocks = self.capacity
        self._arrays = kernels.new_arrays(num_blocks)
        self._scratch_blocks = np.empty(num_blocks, np.int32)
        self._scratch_hashes = np.empty(num_blocks, np.uint64)

    @property
    def used_blocks(self) -> int:
        return self.capacity - self.free_blocks

    def find_prefix(self, hashes: Hashes, limit_blocks: int) -> Blocks:
        """Blocks that hold the longest cached prefix, at most ``limit_blocks``."""
        limit_blocks = min(limit_blocks, len(hashes), self.capacity)
        found = kernels.find_prefix(self._arrays, hashes, self._scratch_blocks[:limit_blocks])
        return self._scratch_blocks[:found].copy()

    def free_among(self, blocks: Blocks) -> int:
        """How many of these blocks nobody holds."""
        return kernels.count_free(self._arrays, blocks)

    def hold(self, blocks: Blocks) -> None:
        """Take one reference to each of these cached blocks."""
        self.free_blocks -= kernels.hold(self._arrays, blocks)

    def take(self, blocks: Blocks) -> Hashes:
        """Fill ``blocks`` with the first free ones; the hashes that can no longer be found in them.

        Raises ValueError when there are not so many; ask ``free_blocks`` first.
        """
        if len(blocks) > self.free_blocks:
            raise ValueError(f"{len(blocks)} blocks asked for, {self.free_blocks} free: look at free_blocks first")
        self.free_blocks -= len(blocks)
        evicted = kernels.take(self._arrays, blocks, self._scratch_hashes)
        return self._evicted(evicted)

    def release(self, blocks: Blocks) -> None:
        """Give back one reference to each block of a request.

        The blocks come in the order of the tokens, and are freed from the last: of one request, the tail is
        evicted first, since the tail is of no use without the blocks before it.
        """
        self.free_blocks += kernels.release(self._arrays, blocks)

    def publish(self, blocks: Blocks, hashes: Hashes) -> None:
        """Let held blocks be found by the hashes of the tokens in them, which are never 0.

        A block that was computed twice is there twice, and the older one is found first.
        """
        kernels.publish(self._arrays, blocks, hashes)

    def write(
        self, starts: Indices, written: Indices, steps: int, block_size: int, blocks: Blocks, hashes: Hashes
    ) -> Hashes:
        """Let requests write ``steps`` tokens, as `kernels._write` says; the hashes that can no longer be found.

        There must be free blocks enough. Taken ones are put into ``blocks``.
        """
        taken, evicted = kernels.write(
            self._arrays, starts, written, steps, block_size, blocks, hashes, self._scratch_hashes
        )
        self.free_blocks -= taken
        return self._evicted(evicted)

    def clear(self) -> None:
        """Forget every hash. Held blocks stay held."""
        for cleared in (self._arrays.blocks["hash"], self._arrays.blocks["twin"], self._arrays.places["block"]):
            cleared.fill(0)

    def free_queue(self) -> list[int]:
        """The free blocks, the next one to be taken first."""
        queue = [int(self._arrays.blocks["after"][0])]
        while queue[-1]:
            queue.append(int(self._arrays.blocks["after"][queue[-1]]))
        return queue[:-1]

    def _evicted(self, count: int) -> Hashes:
        return self._scratch_hashes[:count].copy() if count else NO_HASHES
