"""Block hashes: what they depend on, and what they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.index.hashing import chain_seed, hash_blocks, key_hash

tokens = st.lists(st.integers(0, 2**32 - 1), max_size=80).map(lambda values: np.array(values, np.uint32))
block_sizes = st.integers(1, 20)
seeds = st.integers(0, 2**64 - 1)


def test_hashes_are_the_same_in_every_process_and_version() -> None:
    prompt = np.arange(100, 137, dtype=np.uint32)
    assert [hex(value) for value in hash_blocks(prompt, 16, chain_seed("llama"))] == [
        "0x99f1110878d5b402",
        "0x37a3bbf9fd4b3b54",
    ]
    assert hex(hash_blocks(prompt, 16, chain_seed("llama"), ((20, key_hash("cat")),))[1]) == "0x5811c59259426206"
    assert hex(hash_blocks(prompt, 37, 0)[0]) == "0x4ec0776a8afa58a3"


@given(tokens, block_sizes, seeds)
def test_only_full_blocks_are_hashed(prompt: np.ndarray, size: int, seed: int) -> None:
    assert len(hash_blocks(prompt, size, seed)) == len(prompt) // size


@given(tokens, block_sizes, seeds, st.data())
def test_a_prefix_has_the_same_hashes_as_the_whole(
    prompt: np.ndarray, size: int, seed: int, data: st.DataObject
) -> None:
    length = data.draw(st.integers(0, len(prompt)))
    part = hash_blocks(prompt[:length], size, seed)
    assert part.tolist() == hash_blocks(prompt, size, seed)[: len(part)].tolist()


@given(tokens.filter(len), block_sizes, seeds, st.data())
def test_a_changed_token_changes_its_block_and_all_after_it(
    prompt: np.ndarray, size: int, seed: int, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(prompt) - 1))
    changed = prompt.copy()
    changed[position] ^= data.draw(st.integers(1, 2**32 - 1))
    same = hash_blocks(prompt, size, seed) == hash_blocks(changed, size, seed)
    assert same.tolist() == [block < position // size for block in range(len(prompt) // size)]


@given(seeds, seeds)
def test_another_seed_gives_other_hashes(one: int, other: int) -> None:
    prompt = np.arange(32, dtype=np.uint32)
    assert (hash_blocks(prompt, 16, one) == hash_blocks(prompt, 16, other)).all() == (one == other)


def test_blocks_of_different_sizes_never_meet() -> None:
    prompt = np.zeros(64, np.uint32)
    hashes = np.concatenate([hash_blocks(prompt, size, 0) for size in range(1, 33)])
    assert len(np.unique(hashes)) == len(hashes)


def test_similar_blocks_do_not_collide() -> None:
    counting = np.arange(3 * 10**5, dtype=np.uint32)
    sparse = np.zeros(3 * 10**5, np.uint32)
    sparse[::3] = counting[: 10**5] << 12
    hashes = np.concatenate([hash_blocks(prompt, 3, seed) for prompt in (counting, sparse) for seed in (0, 1)])
    assert len(np.unique(hashes)) == len(hashes)
    assert hashes.all()


def test_one_flipped_bit_flips_half_of_the_hash() -> None:
    prompt = np.arange(16, dtype=np.uint32)
    before = hash_blocks(prompt, 16, 7)[0]
    flips = []
    for position in range(16):
        for bit in range(32):
            changed = prompt.copy()
            changed[position] ^= np.uint32(1 << bit)
            flips.append(int(before ^ hash_blocks(changed, 16, 7)[0]).bit_count())
    assert 31 < np.mean(flips) < 33
    assert min(flips) > 8


@given(tokens.filter(len), block_sizes, st.data())
def test_media_change_the_block_that_holds_them_and_all_after_it(
    prompt: np.ndarray, size: int, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(prompt) - 1))
    cat, dog = ((position, key_hash("cat")),), ((position, key_hash("dog")),)
    plain = hash_blocks(prompt, size, 0)
    for one, other in ((plain, hash_blocks(prompt, size, 0, cat)), (hash_blocks(prompt, size, 0, dog), plain)):
        assert (one == other).tolist() == [block < position // size for block in range(len(plain))]
    assert (hash_blocks(prompt, size, 0, cat) != hash_blocks(prompt, size, 0, dog))[position // size :].all()


def test_media_in_one_block_count_in_their_order() -> None:
    prompt = np.zeros(16, np.uint32)
    cat, dog = key_hash("cat"), key_hash(b"dog")
    orders = [((1, cat), (9, dog)), ((1, dog), (9, cat)), ((1, cat),), ((1, cat), (9, cat))]
    assert len({int(hash_blocks(prompt, 16, 0, media)[0]) for media in orders}) == len(orders)


def test_the_seed_tells_apart_model_adapter_salt_and_stand_in_tokens() -> None:
    identities = [
        ("ab", "c", ""),
        ("a", "bc", ""),
        ("abc", "", ""),
        ("ab", "", "c"),
        ("", "ab", "c"),
        ("ab", "c", "", False),
        ("\udcff", "", ""),
    ]
    assert len({chain_seed(*identity) for identity in identities}) == len(identities)
    assert chain_seed("ab", "c") == chain_seed("ab", lora="c", cache_salt="", exact=True)


def test_any_array_of_token_ids_will_do() -> None:
    prompt = np.arange(64, dtype=np.uint32)
    expected = hash_blocks(prompt[::2].copy(), 8, 1).tolist()
    frozen = np.frombuffer(prompt[::2].tobytes(), np.uint32)
    assert hash_blocks(frozen, 8, 1).tolist() == expected
    assert hash_blocks(prompt[::2], 8, 1).tolist() == expected
    assert hash_blocks(prompt[::2].astype(np.int64), 8, 1).tolist() == expected


@pytest.mark.parametrize("size", [0, -16])
def test_a_block_has_at_least_one_token(size: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        hash_blocks(np.zeros(4, np.uint32), size, 0)
