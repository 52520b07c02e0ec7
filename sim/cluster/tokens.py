"""Token ids of prompts that are only told as parts of streams.

A token is a hash of its stream and its position, so equal parts are equal tokens wherever they are rendered, and
unequal ones are not.
"""

from __future__ import annotations

import numpy as np

from router.core.index.hashing import hash_blocks
from router.core.index.jit import entry_point, kernel
from router.core.types import Hashes, Tokens
from sim.workloads.program import Context, Part, Step

_ENGINE_SEED = 1
"""Of the engines' own block hashes. All replicas share it, so that a call's blocks are hashed once."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_30 = np.uint64(30)
_SHIFT_27 = np.uint64(27)
_SHIFT_31 = np.uint64(31)
_SHIFT_47 = np.uint64(47)


class Renderer:
    """Renders the steps of one program. What a step has in common with the one before it is copied from there."""

    def __init__(self, block_size_tokens: int) -> None:
        self._block_size = block_size_tokens
        self._parts: tuple[Part, ...] = ()
        self._tokens: Tokens = np.empty(0, np.uint32)
        self._hashes: Hashes = np.empty(0, np.uint64)

    def render(self, step: Step) -> tuple[Tokens, Hashes]:
        """The tokens of prompt and answer, and the engines' hashes of their full blocks."""
        parts, size = _parts(step), self._block_size
        shared = _shared_tokens(parts, self._parts)
        tokens = _rendered(parts, self._tokens[:shared])
        known = self._hashes[: shared // size]
        parent = int(known[-1]) if len(known) else _ENGINE_SEED
        hashes = np.concatenate([known, hash_blocks(tokens[len(known) * size :], size, parent)])
        self._parts, self._tokens, self._hashes = parts, tokens, hashes
        return tokens, hashes


def render(step: Step) -> Tokens:
    """The tokens of a step's prompt and, behind them, of its answer: uint32 below 2**17."""
    return _rendered(_parts(step), np.empty(0, np.uint32))


def _parts(step: Step) -> tuple[Part, ...]:
    return *step.parts, Part(Context.ANSWER, step.answer_stream, step.output_tokens)


def _shared_tokens(parts: tuple[Part, ...], others: tuple[Part, ...]) -> int:
    """How many leading tokens are certain to be equal."""
    shared = 0
    for part, other in zip(parts, others, strict=False):
        if (part.stream, part.offset) != (other.stream, other.offset):
            break
        shared += min(part.tokens, other.tokens)
        if part.tokens != other.tokens:
            break
    return shared


def _rendered(parts: tuple[Part, ...], known: Tokens) -> Tokens:
    """The tokens of the parts, of which the first are known."""
    tokens = np.empty(sum(part.tokens for part in parts), np.uint32)
    tokens[: len(known)] = known
    start = 0
    for part in parts:
        done = min(max(len(known) - start, 0), part.tokens)
        if done < part.tokens:
            _fill_entry(tokens, start + done, part.tokens - done, part.stream, part.offset + done)
        start += part.tokens
    return tokens


@kernel
def _mix(value: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64 (https://prng.di.unimi.it/splitmix64.c)."""
    value = (value ^ (value >> _SHIFT_30)) * _MIX_1
    value = (value ^ (value >> _SHIFT_27)) * _MIX_2
    return value ^ (value >> _SHIFT_31)


@kernel
def _fill(tokens: Tokens, start: int, count: int, stream: int, offset: int) -> None:
    """Write ``count`` tokens of the stream, from ``offset`` on, to ``tokens[start:]``."""
    base = _mix(np.uint64(stream) + _GOLDEN)
    for i in range(count):
        tokens[start + i] = _mix(base + np.uint64(offset + i) * _GOLDEN) >> _SHIFT_47


_fill_entry = entry_point(_fill, np.empty(0, np.uint32), 0, 0, 0, 0)
