"""The KV blocks of one replica: who holds them, and which can be found by hash.

A block is a small integer. Free blocks stand in a queue; a free block keeps its hash, and so remains a hit, until
it comes to the head of the queue and is taken for other tokens. So the queue is the LRU list of the prefix cache:

    head                                             tail
    [without hash, last freed first][hashed, least recently freed first]
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice


class BlockPool:
    """Counts references, keeps the free queue, finds blocks by hash."""

    __slots__ = ("_cached", "_free", "_hashes", "_refs", "_twins", "capacity")

    def __init__(self, num_blocks: int) -> None:
        """``num_blocks`` includes block 0, the null block, which is never handed out."""
        self.capacity = num_blocks - 1
        self._refs = [0] * num_blocks
        self._hashes: list[int | None] = [None] * num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        self._cached: dict[int, int] = {}
        self._twins: dict[int, list[int]] = {}
        """Hash to the further blocks that hold the same tokens, oldest first."""

    @property
    def free_blocks(self) -> int:
        return len(self._free)

    @property
    def used_blocks(self) -> int:
        return self.capacity - len(self._free)

    def find_prefix(self, hashes: Sequence[int], limit_blocks: int) -> list[int]:
        """Blocks that hold the longest cached prefix, at most ``limit_blocks``."""
        found = []
        cached = self._cached
        for block_hash in islice(hashes, limit_blocks):
            block = cached.get(block_hash)
            if block is None:
                break
            found.append(block)
        return found

    def free_among(self, blocks: Sequence[int]) -> int:
        """How many of these blocks nobody holds."""
        refs = self._refs
        return sum(not refs[block] for block in blocks)

    def hold(self, blocks: Sequence[int]) -> None:
        """Take one reference to each of these cached blocks."""
        refs, free = self._refs, self._free
        for block in blocks:
            if not refs[block]:
                del free[block]
            refs[block] += 1

    def take(self, count: int) -> tuple[list[int], list[int]]:
        """The first ``count`` free blocks, and the hashes that can no longer be found in them.

        Raises KeyError when there are not so many; ask ``free_blocks`` first.
        """
        popitem, refs, hashes = self._free.popitem, self._refs, self._hashes
        taken, evicted = [], []
        for _ in range(count):
            block, _none = popitem(last=False)
            block_hash = hashes[block]
            if block_hash is not None:
                self._forget(block, block_hash)
                evicted.append(block_hash)
            refs[block] = 1
            taken.append(block)
        return taken, evicted

    def release(self, blocks: Sequence[int]) -> None:
        """Give back one reference to each block of a request.

        The blocks come in the order of the tokens, and are freed from the last: of one request, the tail is
        evicted first, since the tail is of no use without the blocks before it.
        """
        refs, hashes, free = self._refs, self._hashes, self._free
        unhashed = []
        for block in reversed(blocks):
            refs[block] -= 1
            if refs[block]:
                continue
            if hashes[block] is None:
                unhashed.append(block)
            else:
                free[block] = None
        for block in reversed(unhashed):
            free[block] = None
            free.move_to_end(block, last=False)

    def publish(self, block: int, block_hash: int) -> None:
        """Let a held block be found by the hash of the tokens in it.

        A block that was computed twice is there twice, and the older one is found first.
        """
        self._hashes[block] = block_hash
        if self._cached.setdefault(block_hash, block) != block:
            self._twins.setdefault(block_hash, []).append(block)

    def clear(self) -> None:
        """Forget every hash. Held blocks stay held."""
        self._hashes = [None] * len(self._hashes)
        self._cached.clear()
        self._twins.clear()

    def _forget(self, block: int, block_hash: int) -> None:
        self._hashes[block] = None
        twins = self._twins.get(block_hash)
        if twins is None:
            del self._cached[block_hash]
            return
        if self._cached[block_hash] == block:
            self._cached[block_hash] = twins.pop(0)
        else:
            twins.remove(block)
        if not twins:
            del self._twins[block_hash]
