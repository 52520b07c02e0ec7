"""How much of a prompt each candidate already holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.core.fleet import Fleet, ModelRef, Slots
from router.core.index.hashing import chain_seed, hash_blocks
from router.core.index.prefix_index import PrefixIndex
from router.core.types import Hashes, Prompt
from router.core.view import Candidates


@dataclass(slots=True)
class Chain:
    """A prompt's block hashes, for each block size that the model's replicas use."""

    prompt_tokens: int
    exact: bool
    hashes: dict[int, Hashes]


def chain_of(prompt: Prompt, model: ModelRef, cache_salt: str, fleet: Fleet) -> Chain:
    """Hashes a prompt once for every block size in use."""
    seed = chain_seed(model.base, model.lora, cache_salt, prompt.exact)
    sizes = fleet.block_sizes_tokens(model.base)
    hashes = {size: hash_blocks(prompt.token_ids, size, seed, prompt.media) for size in sizes}
    return Chain(len(prompt.token_ids), prompt.exact, hashes)


def look_up(chain: Chain | None, slots: Slots, fleet: Fleet, index: PrefixIndex) -> Candidates:
    """The candidates with the prompt tokens that each holds, by tier.

    The last token of a prompt is always computed (its logits are needed), so a block that ends with it never counts.
    """
    if chain is None or not chain.hashes:
        return Candidates(slots, fleet, np.zeros((4, len(slots))))
    if len(chain.hashes) == 1:
        size, hashes = next(iter(chain.hashes.items()))
        return Candidates(slots, fleet, _held_tokens(chain, size, hashes, slots, index))
    own_size = np.array([spec.block_size_tokens if (spec := fleet.specs[slot]) else 0 for slot in slots])
    held_tokens = np.zeros((4, len(slots)))
    for size, hashes in chain.hashes.items():
        rows = own_size == size
        held_tokens[:, rows] = _held_tokens(chain, size, hashes, slots[rows], index)
    return Candidates(slots, fleet, held_tokens)


def _held_tokens(chain: Chain, size: int, hashes: Hashes, slots: Slots, index: PrefixIndex) -> NDArray[np.float64]:
    match = index.match(hashes[: max(chain.prompt_tokens - 1, 0) // size])
    return match.counts.take(slots, axis=1) * np.float64(size)
