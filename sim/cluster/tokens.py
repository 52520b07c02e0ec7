"""Token ids of prompts that are only told as parts of streams.

A token is a hash of its stream and its position, so equal parts are equal tokens wherever they are rendered, and
unequal ones are not.
"""

from __future__ import annotations

import numpy as np

from router.core.index.jit import entry_point, kernel
from router.core.types import Tokens
from sim.workloads.program import Step

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_30 = np.uint64(30)
_SHIFT_27 = np.uint64(27)
_SHIFT_31 = np.uint64(31)
_SHIFT_47 = np.uint64(47)


def render(step: Step) -> Tokens:
    """The tokens of a step's prompt and, behind them, of its answer: uint32 below 2**17."""
    tokens = np.empty(step.prompt_tokens + step.output_tokens, np.uint32)
    start = 0
    for part in step.parts:
        _fill_entry(tokens, start, part.tokens, part.stream, part.offset)
        start += part.tokens
    _fill_entry(tokens, start, step.output_tokens, step.answer_stream, 0)
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
