"""The block pool against a reference that keeps everything in one list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.types import Hashes
from sim.engine.block_pool import BlockPool
from sim.engine.kernels import Blocks


class NaivePool:
    """The same rules, written as plainly as possible."""

    def __init__(self, num_blocks: int) -> None:
        self.queue = list(range(1, num_blocks))
        self.holders: dict[int, int] = {}
        self.stored: list[tuple[int, int]] = []  # (hash, block), oldest first

    def hash_of(self, block: int) -> int | None:
        return next((h for h, b in self.stored if b == block), None)

    def find(self, block_hash: int) -> int | None:
        return next((b for h, b in self.stored if h == block_hash), None)

    def take(self, count: int) -> tuple[list[int], list[int]]:
        taken, self.queue = self.queue[:count], self.queue[count:]
        evicted = [self.hash_of(block) for block in taken]
        self.stored = [(h, b) for h, b in self.stored if b not in taken]
        self.holders.update(dict.fromkeys(taken, 1))
        return taken, [block_hash for block_hash in evicted if block_hash is not None]

    def hold(self, blocks: list[int]) -> None:
        for block in blocks:
            if block in self.queue:
                self.queue.remove(block)
            self.holders[block] = self.holders.get(block, 0) + 1

    def release(self, blocks: list[int]) -> None:
        freed = []
        for block in reversed(blocks):
            self.holders[block] -= 1
            if not self.holders[block]:
                freed.append(block)
        self.queue = (
            [block for block in freed if self.hash_of(block) is None]
            + self.queue
            + [block for block in freed if self.hash_of(block) is not None]
        )


UNMIX = pow(0x9E3779B97F4A7C15, -1, 2**64)
"""Undoes what the pool's hash table does to a hash before it looks at it."""


def crowded(chain: list[int]) -> int:
    """The hash of a chain, such that all hashes belong to one of two neighbouring places of the table, and collide."""
    mixed = hash(tuple(chain)) % 2**31
    return UNMIX * ((mixed % 2 << 32) + mixed) % 2**64


def hashes_of(*values: int) -> Hashes:
    return np.array(values, np.uint64)


def take(pool: BlockPool, count: int) -> tuple[list[int], list[int]]:
    """Blocks taken, hashes evicted."""
    blocks: Blocks = np.zeros(count, np.int32)
    evicted = pool.take(blocks)
    return blocks.tolist(), evicted.tolist()


def blocks_of(blocks: list[int]) -> Blocks:
    return np.array(blocks, np.int32)


@settings(deadline=None)
@given(st.data(), st.integers(4, 20))
def test_behaves_like_the_reference(data: st.DataObject, num_blocks: int) -> None:
    pool, naive = BlockPool(num_blocks), NaivePool(num_blocks)
    held: list[list[int]] = []
    for _ in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(["start", "start", "end", "clear"])):
            case "start":
                chain = data.draw(st.lists(st.integers(1, 2), max_size=6))
                hashes = [crowded(chain[: end + 1]) for end in range(len(chain))]
                hits = pool.find_prefix(hashes_of(*hashes), len(hashes)).tolist()
                assert hits == [naive.find(h) for h in hashes[: len(hits)]]
                assert len(hits) == len(hashes) or naive.find(hashes[len(hits)]) is None
                count = len(chain) - len(hits) + data.draw(st.integers(0, 2))
                if count + pool.free_among(blocks_of(hits)) > pool.free_blocks:
                    continue
                pool.hold(blocks_of(hits))
                naive.hold(hits)
                taken, evicted = take(pool, count)
                assert (taken, evicted) == naive.take(count)
                new = list(zip(hashes[len(hits) :], taken, strict=False))
                pool.publish(blocks_of([block for _, block in new]), hashes_of(*(one for one, _ in new)))
                naive.stored += new
                held.append(hits + taken)
            case "end" if held:
                blocks = held.pop(data.draw(st.integers(0, len(held) - 1)))
                pool.release(blocks_of(blocks))
                naive.release(blocks)
            case "clear" if not held:
                pool.clear()
                naive.stored.clear()
        assert pool.free_blocks == len(naive.queue)
        assert pool.used_blocks == len({block for blocks in held for block in blocks})
        assert pool.free_queue() == naive.queue
    everything, _ = take(pool, pool.free_blocks)
    assert everything == naive.queue
    assert 0 not in everything, "the null block is never handed out"


def test_the_oldest_of_equal_blocks_is_found_and_all_must_go_before_the_hash_is_gone() -> None:
    pool = BlockPool(4)
    blocks, _ = take(pool, 3)
    pool.publish(blocks_of(blocks), hashes_of(77, 77, 77))

    for block in blocks:
        assert pool.find_prefix(hashes_of(77), 1).tolist() == [block]
        pool.release(blocks_of([block]))
        assert take(pool, 1) == ([block], [77])
    assert len(pool.find_prefix(hashes_of(77), 1)) == 0


def test_taking_more_than_is_free_is_an_error() -> None:
    with pytest.raises(ValueError, match="free"):
        take(BlockPool(3), 3)
