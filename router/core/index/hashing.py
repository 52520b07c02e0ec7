"""Chained block hashes: the name by which the index knows a prompt prefix.

Block ``i`` hashes its own token ids, seeded with the hash of block ``i - 1``; block 0 is seeded with
`chain_seed`. So one 64-bit value identifies a whole prefix, and equal prefixes meet on the same value whatever
engine, version or process computed them.

The mixing is that of XXH3 for short inputs (https://github.com/Cyan4973/xxHash, XXH3_len_17to128): each lane of
four token ids is keyed, multiplied to 128 bits and folded; the sum of the lanes is avalanched.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import xxhash
from numpy.typing import NDArray

from router.core.index.jit import entry_point, fold_multiply, kernel
from router.core.types import Hashes, Tokens

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_LENGTH = np.uint64(0xC2B2AE3D27D4EB4F)
_MEDIA = np.uint64(0xD6E8FEB86659FD93)
_AVALANCHE = np.uint64(0x165667919E3779F9)
_SHIFT_32 = np.uint64(32)
_SHIFT_37 = np.uint64(37)
_ONE = np.uint64(1)

NO_MEDIA: NDArray[np.uint64] = np.empty(0, np.uint64)
"""Per-block media keys of a prompt without media."""


@lru_cache(maxsize=4096)
def chain_seed(model: str, lora: str = "", cache_salt: str = "", exact: bool = True) -> int:
    """The 64-bit seed of all chains of a model, or of one adapter of it, or of one cache salt.

    ``exact`` is `Prompt.exact`: stand-in tokens never meet the engine's own.
    """
    parts = (model, lora, cache_salt, "exact" if exact else "text")
    fields = [part.encode("utf-8", "surrogatepass") for part in parts]
    return xxhash.xxh3_64_intdigest(b"".join(len(field).to_bytes(8, "little") + field for field in fields))


def key_hash(key: str | bytes) -> int:
    """64-bit content key of a piece of media, from the identifier that the engine gives it."""
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key)


def mix_media(block_key: int, media_key: int) -> int:
    """The media key of a block that held ``block_key`` (0: none) before ``media_key`` joined it."""
    return xxhash.xxh3_64_intdigest(media_key.to_bytes(8, "little"), seed=block_key) or 1


def hash_blocks(
    token_ids: Tokens, block_size_tokens: int, seed: int, media: tuple[tuple[int, int], ...] = ()
) -> Hashes:
    """Chained hashes of the full blocks of a prompt; a last, partial block has none.

    ``media`` is `Prompt.media`. Raises ValueError when the block size is not positive.
    """
    if block_size_tokens <= 0:
        raise ValueError(f"block_size_tokens must be positive, not {block_size_tokens}")
    hashes = np.empty(len(token_ids) // block_size_tokens, np.uint64)
    block_keys = _block_keys(media, block_size_tokens, len(hashes)) if media else NO_MEDIA
    tokens = np.ascontiguousarray(token_ids, np.uint32)
    _hash_chain_entry(tokens, block_size_tokens, seed, block_keys, hashes)
    return hashes


def _block_keys(media: tuple[tuple[int, int], ...], block_size_tokens: int, blocks: int) -> NDArray[np.uint64]:
    keys = [0] * blocks
    for position, media_key in media:
        block = position // block_size_tokens
        if block < blocks:
            keys[block] = mix_media(keys[block], media_key)
    return np.array(keys, np.uint64)


@kernel
def hash_block(tokens: Tokens, start: int, size: int, parent: np.uint64, media_key: np.uint64) -> np.uint64:
    """Hash of ``tokens[start : start + size]`` after the block ``parent``; never 0."""
    total = np.uint64(size) * _LENGTH
    key = _WEYL
    end = start + size
    lane = start
    while lane + 4 <= end:
        low = np.uint64(tokens[lane]) | np.uint64(tokens[lane + 1]) << _SHIFT_32
        high = np.uint64(tokens[lane + 2]) | np.uint64(tokens[lane + 3]) << _SHIFT_32
        total += fold_multiply(low ^ (key + parent), high ^ (key + _WEYL - parent))
        key += _WEYL + _WEYL
        lane += 4
    while lane < end:
        total += fold_multiply(np.uint64(tokens[lane]) ^ (key + parent), key + _WEYL - parent)
        key += _WEYL + _WEYL
        lane += 1
    if media_key != 0:
        total += fold_multiply(media_key ^ (_MEDIA + parent), _MEDIA - parent)
    total ^= total >> _SHIFT_37
    total *= _AVALANCHE
    total ^= total >> _SHIFT_32
    return max(total, _ONE)


@kernel
def _hash_chain(tokens: Tokens, size: int, seed: int | np.uint64, media: NDArray[np.uint64], hashes: Hashes) -> None:
    parent = np.uint64(seed)
    for block in range(len(hashes)):
        media_key = media[block] if len(media) else np.uint64(0)
        parent = hash_block(tokens, block * size, size, parent, media_key)
        hashes[block] = parent


_hash_chain_entry = entry_point(_hash_chain, np.empty(0, np.uint32), 0, np.uint64(0), NO_MEDIA, np.empty(0, np.uint64))
