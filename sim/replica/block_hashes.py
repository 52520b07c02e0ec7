"""The replica's own block hashes: 64 bits, chained, seeded anew with each start.

vLLM's are other ones, and differ between versions and algorithms. Nobody outside a replica may rely on them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest


def hash_blocks(tokens: NDArray[np.uint32], block_size_tokens: int, seed: int) -> list[int]:
    """One hash per full block; it stands for all tokens up to the end of the block."""
    data = tokens.tobytes()
    stride = 4 * block_size_tokens
    hashes, parent = [], seed
    for start in range(0, len(data) - stride + 1, stride):
        parent = xxh3_64_intdigest(data[start : start + stride], seed=parent)
        hashes.append(parent)
    return hashes


def chain_seed(start: str, cache_salt: str) -> int:
    """Where chains begin: another value for each start of the replica and each cache salt."""
    return xxh3_64_intdigest(f"{start}\0{cache_salt}".encode())
