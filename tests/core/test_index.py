"""The prefix index, by example. What it must do in every order of events is in test_index_against_model.py."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.index.batch import KvBatch
from router.core.index.hashing import chain_seed, hash_blocks, mix_media
from router.core.index.prefix_index import PrefixIndex
from router.core.index.snapshot import SnapshotError
from router.core.types import Hashes, Tier

SIZE = 4
SEED = chain_seed("model")
PROMPT = np.arange(40, dtype=np.uint32)
HASHES = hash_blocks(PROMPT, SIZE, SEED)
BLOCKS = len(HASHES)


def stored(first: int, last: int, tier: Tier = Tier.GPU, engine: int = 100, tokens: bool = True) -> KvBatch:
    """Blocks ``first .. last - 1`` of the prompt, as an engine calls them."""
    return KvBatch.stored(
        range(engine + first, engine + last),
        PROMPT[first * SIZE : last * SIZE] if tokens else (),
        SIZE if tokens else 0,
        parent=engine + first - 1 if first and tokens else None,
        seed=SEED,
        tier=tier,
    )


def removed(*blocks: int, tier: Tier = Tier.GPU, engine: int = 100) -> KvBatch:
    return KvBatch.removed([engine + block for block in blocks], tier=tier)


def matched(index: PrefixIndex, hashes: Hashes = HASHES) -> dict[int, int]:
    """Slots that hold anything of the prompt, and how many blocks of it."""
    blocks = index.match(hashes).blocks
    return {int(slot): int(blocks[slot]) for slot in np.flatnonzero(blocks)}


class TestReported:
    def test_each_replica_matches_as_far_as_it_holds_the_prompt(self) -> None:
        index = PrefixIndex()
        for slot, blocks in ((0, 3), (5, 10), (1023, 1)):
            index.apply(slot, stored(0, blocks))
        assert matched(index) == {0: 3, 5: 10, 1023: 1}
        assert matched(index, HASHES[:2]) == {0: 2, 5: 2, 1023: 1}
        assert matched(index, HASHES[:0]) == {}

    def test_the_engines_own_hashes_do_not_matter(self) -> None:
        index = PrefixIndex()
        index.apply(0, stored(0, 4, engine=100))
        index.apply(1, stored(0, 4, engine=2**64 - 50))
        assert matched(index) == {0: 4, 1: 4}
        assert index.distinct_blocks == 4

    def test_later_events_go_on_from_their_parent(self) -> None:
        index = PrefixIndex()
        index.apply(0, KvBatch.join([stored(0, 2), stored(2, 3), stored(3, 10)]))
        assert matched(index) == {0: 10}

    def test_a_hole_ends_the_match_and_closing_it_mends_it(self) -> None:
        index = PrefixIndex()
        index.apply(0, stored(0, 10))
        index.apply(1, stored(0, 10))
        index.apply(0, removed(4))
        assert matched(index) == {0: 4, 1: 10}
        index.apply(0, stored(4, 5))
        assert matched(index) == {0: 10, 1: 10}

    def test_what_was_stored_twice_is_removed_twice(self) -> None:
        index = PrefixIndex()
        index.apply(0, KvBatch.join([stored(0, 2), stored(0, 2), removed(0, 1)]))
        assert matched(index) == {0: 2}
        index.apply(0, removed(0, 1))
        assert matched(index) == {}
        assert index.distinct_blocks == 0

    def test_two_engine_hashes_may_name_one_block(self) -> None:
        index = PrefixIndex()
        index.apply(0, stored(0, 3, engine=100))
        index.apply(0, stored(0, 3, engine=900))
        index.apply(0, removed(0, 1, 2, engine=100))
        assert matched(index) == {0: 3}
        index.apply(0, removed(0, 1, 2, engine=900))
        assert matched(index) == {}

    def test_an_unknown_parent_is_counted_and_its_blocks_left_out(self) -> None:
        index = PrefixIndex()
        applied = index.apply(0, KvBatch.join([stored(3, 6), stored(0, 1)]))
        assert (applied.unknown_parents, applied.orphaned_blocks, applied.stored_blocks) == (1, 3, 1)
        assert matched(index) == {0: 1}

    def test_an_unknown_removal_is_counted(self) -> None:
        index = PrefixIndex()
        applied = index.apply(0, KvBatch.join([stored(0, 1), removed(0, 7), removed(0)]))
        assert (applied.removed_blocks, applied.unknown_removed) == (1, 2)

    def test_clearing_empties_every_tier_of_that_replica_alone(self) -> None:
        index = PrefixIndex()
        for slot in (0, 1):
            index.apply(slot, KvBatch.join([stored(0, 5), stored(0, 5, Tier.CPU, tokens=False)]))
        applied = index.apply(0, KvBatch.join([KvBatch.cleared(), stored(0, 1)]))
        assert applied.clears == 1
        assert matched(index) == {0: 1, 1: 5}
        assert index.held_blocks(0) == 1

    def test_events_of_one_batch_count_in_their_order(self) -> None:
        index = PrefixIndex()
        index.apply(0, KvBatch.join([stored(0, 2), KvBatch.cleared(), stored(0, 1), removed(0), stored(0, 1)]))
        assert matched(index) == {0: 1}


class TestTiers:
    def test_an_offloaded_block_is_resolved_by_its_engine_hash(self) -> None:
        index = PrefixIndex()
        index.apply(0, KvBatch.join([stored(0, 6), stored(0, 4, Tier.CPU, tokens=False), removed(2, 3, 4, 5)]))
        match = index.match(HASHES)
        assert (match.blocks[0], match.gpu_blocks[0], match.cpu_blocks[0]) == (4, 2, 2)

    def test_a_block_counts_in_its_fastest_tier(self) -> None:
        index = PrefixIndex()
        index.apply(0, stored(0, 6, Tier.DISK))
        index.apply(0, stored(0, 4, Tier.CPU, tokens=False))
        index.apply(0, stored(0, 1, Tier.GPU, tokens=False))
        match = index.match(HASHES)
        assert (match.gpu_blocks[0], match.cpu_blocks[0], match.disk_blocks[0]) == (1, 3, 2)

    def test_an_offloaded_block_that_is_not_known_is_counted(self) -> None:
        applied = PrefixIndex().apply(0, stored(0, 3, Tier.CPU, tokens=False))
        assert (applied.unknown_offloaded, applied.unknown_parents, applied.stored_blocks) == (3, 0, 0)

    def test_a_known_block_keeps_its_identity_when_a_tier_tells_less_of_it(self) -> None:
        index, salted = PrefixIndex(), chain_seed("model", cache_salt="tenant")
        batch = KvBatch.stored([1, 2], PROMPT[:8], SIZE, seed=salted)
        again = KvBatch.stored([1, 2, 3], PROMPT[:12], SIZE, seed=SEED, tier=Tier.CPU)
        index.apply(0, KvBatch.join([batch, again]))
        assert matched(index, hash_blocks(PROMPT, SIZE, salted)) == {0: 3}
        assert matched(index) == {}

    def test_a_tier_costs_memory_in_the_replica_that_reports_it_alone(self) -> None:
        index, plain = PrefixIndex(), PrefixIndex()
        for each in (index, plain):
            for slot in range(20):
                each.apply(slot, stored(0, 10))
        index.apply(1, stored(0, 1, Tier.CPU, tokens=False))
        assert 0 < index.memory_bytes - plain.memory_bytes < 2000
        assert index.match(HASHES).gpu_blocks[:20].tolist() == [10] * 20


class TestPredicted:
    def test_a_prediction_counts_until_it_expires(self) -> None:
        index = PrefixIndex()
        index.predict(3, HASHES, expires_s=5.0)
        index.expire(4.9)
        assert matched(index) == {3: 10}
        assert index.match(HASHES).gpu_blocks[3] == 10
        index.expire(5.0)
        assert matched(index) == {}
        assert index.distinct_blocks == 0

    def test_predicted_blocks_continue_reported_ones(self) -> None:
        index = PrefixIndex()
        index.apply(0, stored(0, 4))
        index.predict(0, HASHES, expires_s=5.0)
        assert matched(index) == {0: 10}
        index.expire(5.0)
        assert matched(index) == {0: 4}

    def test_a_confirmed_block_lives_as_long_as_the_replica_says(self) -> None:
        index = PrefixIndex()
        index.predict(0, HASHES, expires_s=5.0)
        index.apply(0, stored(0, 6))
        index.expire(5.0)
        assert matched(index) == {0: 6}
        index.predict(0, HASHES, expires_s=9.0)
        index.apply(0, removed(3))
        assert matched(index) == {0: 3}

    def test_the_newest_prediction_decides(self) -> None:
        index = PrefixIndex()
        index.predict(0, HASHES, expires_s=5.0)
        index.predict(0, HASHES[:6], expires_s=8.0)
        index.expire(6.0)
        assert matched(index) == {0: 6}
        index.expire(8.0)
        assert matched(index) == {}

    def test_a_prediction_outlives_a_clear_but_not_a_drop(self) -> None:
        index = PrefixIndex()
        index.predict(0, HASHES, expires_s=5.0)
        index.predict(1, HASHES, expires_s=5.0)
        index.apply(0, KvBatch.cleared())
        assert matched(index) == {0: 10, 1: 10}
        index.drop(0)
        assert matched(index) == {1: 10}
        index.expire(5.0)
        assert index.distinct_blocks == 0

    def test_an_offloaded_block_that_is_needed_is_predicted_on_the_gpu(self) -> None:
        index = PrefixIndex()
        index.apply(0, stored(0, 2, Tier.DISK))
        index.predict(0, HASHES[:2], expires_s=1.0)
        assert index.match(HASHES).gpu_blocks[0] == 2
        index.expire(1.0)
        assert index.match(HASHES).disk_blocks[0] == 2


class TestRemembered:
    def test_the_last_prompts_are_remembered_up_to_the_capacity(self) -> None:
        index = PrefixIndex()
        index.remember(0, HASHES, capacity_blocks=12)
        other = hash_blocks(PROMPT + np.uint32(1000), SIZE, SEED)[:4]
        index.remember(0, other, capacity_blocks=12)
        assert matched(index, other) == {0: 4}
        assert matched(index) == {0: 8}, "of the older prompt the last blocks go first"
        assert index.held_blocks(0) == 12

    def test_what_is_used_again_stays(self) -> None:
        index = PrefixIndex()
        prompts = [hash_blocks(PROMPT[:16] + np.uint32(1000 * i), SIZE, SEED) for i in range(3)]
        for prompt in (prompts[0], prompts[1], prompts[0], prompts[2]):
            index.remember(0, prompt, capacity_blocks=8)
        assert [matched(index, prompt) for prompt in prompts] == [{0: 4}, {}, {0: 4}]

    def test_a_prompt_longer_than_the_capacity_keeps_its_beginning(self) -> None:
        index = PrefixIndex()
        index.remember(0, HASHES, capacity_blocks=3)
        assert matched(index) == {0: 3}
        index.remember(0, HASHES, capacity_blocks=0)
        assert matched(index) == {}


class TestSlots:
    def test_a_dropped_slot_starts_anew(self) -> None:
        index = PrefixIndex()
        index.apply(7, KvBatch.join([stored(0, 10), stored(0, 10), stored(0, 3, Tier.CPU)]))
        index.remember(7, HASHES, capacity_blocks=5)
        index.predict(7, HASHES, expires_s=5.0)
        index.drop(7)
        assert matched(index) == {}
        assert index.held_blocks(7) == index.held_blocks_total == index.distinct_blocks == 0
        assert index.apply(7, stored(1, 2)).unknown_parents == 1

    def test_dropping_a_slot_that_was_never_used_does_nothing(self) -> None:
        PrefixIndex().drop(3)

    @pytest.mark.parametrize("slot", [-1, 4])
    def test_a_slot_must_exist(self, slot: int) -> None:
        with pytest.raises(IndexError, match=r"outside 0\.\.3"):
            PrefixIndex(max_replicas=4).apply(slot, stored(0, 1))

    @pytest.mark.parametrize("count", [0, 20000])
    def test_the_number_of_replicas_is_bounded(self, count: int) -> None:
        with pytest.raises(ValueError, match="max_replicas"):
            PrefixIndex(max_replicas=count)

    def test_a_match_stays_valid(self) -> None:
        index = PrefixIndex(max_replicas=3)
        index.apply(2, stored(0, 4))
        first = index.match(HASHES)
        index.apply(1, stored(0, 2))
        index.match(HASHES)
        assert first.blocks[:3].tolist() == [0, 0, 4]


class TestMemory:
    def test_removed_blocks_leave_nothing_behind(self) -> None:
        index = PrefixIndex()
        rng = np.random.default_rng(5)
        sizes = []
        for round_ in range(8):
            names = rng.integers(0, 2**64, 5000, dtype=np.uint64)
            tokens = rng.integers(0, 10**5, 5000 * SIZE, dtype=np.uint32)
            for slot in range(70):
                index.apply(slot, KvBatch.stored(names[:500], tokens[: 500 * SIZE], SIZE, seed=round_))
            index.apply(0, KvBatch.stored(names, tokens, SIZE, seed=1000 + round_, tier=Tier(round_ % 3)))
            hashes = hash_blocks(tokens, SIZE, round_)
            index.predict(round_, hashes, expires_s=round_)
            index.remember(69, hashes, capacity_blocks=100)
            for slot in range(70):
                index.apply(slot, KvBatch.removed(names[:500]))
            index.apply(0, KvBatch.removed(names, tier=Tier(round_ % 3)))
            index.expire(round_)
            assert index.held_blocks_total == 100
            assert index.distinct_blocks == 100
            sizes.append(index.memory_bytes)
        assert sizes[3] == sizes[-1]

    def test_a_held_block_takes_less_than_forty_bytes(self) -> None:
        index = PrefixIndex()
        rng = np.random.default_rng(6)
        for slot in range(64):
            names = rng.integers(0, 2**64, 3000, dtype=np.uint64)
            tokens = rng.integers(0, 10**5, 3000, dtype=np.uint32)
            index.apply(slot, KvBatch.stored(names, tokens, 1, seed=slot))
        assert index.distinct_blocks == index.held_blocks_total == 64 * 3000
        assert index.memory_bytes / index.held_blocks_total < 40


class TestSnapshot:
    def filled(self) -> PrefixIndex:
        index = PrefixIndex()
        index.apply(0, stored(0, 6))
        index.apply(900, KvBatch.join([stored(0, 4), stored(0, 4), stored(2, 4, Tier.DISK, tokens=False)]))
        index.remember(3, HASHES, capacity_blocks=8)
        index.predict(4, HASHES, expires_s=1.0)
        return index

    def test_everything_but_predictions_comes_back(self) -> None:
        index = PrefixIndex()
        index.apply(5, stored(0, 1))
        index.load(self.filled().snapshot())
        assert matched(index) == {0: 6, 900: 4, 3: 8}
        index.apply(900, removed(0, 1, 2, 3))
        assert matched(index)[900] == 4, "each block was stored twice"
        index.apply(900, removed(0, 1, 2, 3))
        assert 900 not in matched(index), "only blocks 2 and 3 are left, on disk"
        index.remember(3, HASHES[:2], capacity_blocks=4)
        assert matched(index)[3] == 4, "the order of use came back as well"

    def test_an_empty_index_has_a_snapshot(self) -> None:
        index = self.filled()
        index.load(PrefixIndex().snapshot())
        assert index.held_blocks_total == index.distinct_blocks == 0

    @pytest.mark.parametrize("damage", ["empty", "magic", "cut", "flipped", "body"])
    def test_bad_data_changes_nothing(self, damage: str) -> None:
        index = self.filled()
        data = bytearray(index.snapshot())
        if damage == "empty":
            data.clear()
        elif damage == "magic":
            data[0] ^= 1
        elif damage == "cut":
            del data[-5:]
        elif damage == "flipped":
            data[len(data) // 2] ^= 1
        else:
            data[12:] = b"\xc1"
        with pytest.raises(SnapshotError):
            index.load(bytes(data))
        assert matched(index) == {0: 6, 900: 4, 3: 8, 4: 10}

    def test_slots_must_fit(self) -> None:
        with pytest.raises(SnapshotError, match="slot 900"):
            PrefixIndex(max_replicas=64).load(self.filled().snapshot())


def test_batches_are_checked() -> None:
    with pytest.raises(ValueError, match="cannot hold 7 token ids"):
        KvBatch.stored([1, 2], range(7), 4)
    with pytest.raises(ValueError, match="media keys"):
        KvBatch.stored([1, 2], range(8), 4, media=[1])
    assert len(KvBatch.join([])) == 0


def test_media_of_a_batch_enter_the_hashes() -> None:
    index = PrefixIndex()
    media = ((5, 77),)
    block_key = mix_media(0, 77)
    plain = KvBatch.stored([10], PROMPT[:4], SIZE, seed=SEED + 1)
    pictured = KvBatch.stored([1, 2, 3], PROMPT[:12], SIZE, seed=SEED, media=[0, block_key, 0])
    index.apply(0, KvBatch.join([plain, pictured]))
    assert matched(index, hash_blocks(PROMPT[:12], SIZE, SEED, media)) == {0: 3}
    assert matched(index) == {0: 1}
