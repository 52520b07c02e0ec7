"""What one probe measured: a time, and the work that was done in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sim.engine import Work


class Kind(StrEnum):
    PREFILL = "prefill"
    PARTLY_CACHED = "partly cached"
    CACHED = "cached"
    DECODE = "decode"


@dataclass(slots=True, frozen=True)
class Observation:
    """The median of several tries."""

    kind: Kind
    what: str
    """For a person."""
    duration_s: float
    spread: float
    """Largest minus smallest of the tries, over the median."""
    steps: int
    work: Work
    prompt_tokens: int | None = None
    """Of a time that began when the client sent its request, and so holds the way to the engine and back."""


def prefill(prompt_tokens: int, cached_tokens: int, max_num_batched_tokens: int) -> tuple[int, Work]:
    """Steps and their work until a prompt's first output token, alone in the engine."""
    steps, work, done = 0, Work(), cached_tokens
    while done < prompt_tokens:
        tokens = min(max_num_batched_tokens, prompt_tokens - done)
        work.add(tokens, done)
        done += tokens
        steps += 1
    return steps, work


def decode_step(contexts_tokens: list[int]) -> Work:
    """One step of sequences that have computed so many tokens before it."""
    work = Work()
    for tokens in contexts_tokens:
        work.add(1, tokens)
    return work
