"""The replica's own block hashes: 64 bits, chained, seeded anew with each start.

vLLM's are other ones, and differ between versions and algorithms. Nobody outside a replica may rely on them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from router.core.types import Hashes


def hash_blocks(tokens: NDArray[np.uint32], block_size_tokens: int, seed: int) -> Hashes:
    """One hash per full block; it stands for all tokens up to the end of the block."""
    data = tokens.tobytes()
    stride = 4 * block_size_tokens
    hashes, parent = np.empty(len(tokens) // block_size_tokens, np.uint64), seed
    for block in range(len(hashes)):
        parent = xxh3_64_intdigest(data[block * stride : (block + 1) * stride], seed=parent)
        hashes[block] = parent
    return hashes


def chain_seed(start: str, cache_salt: str) -> int:
    """Where chains begin: another value for each start of the replica and each cache salt."""
    return xxh3_64_intdigest(f"{start}\0{cache_salt}".encode())
