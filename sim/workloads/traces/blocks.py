"""From the block ids of a trace to the parts of a prompt.

A trace names the blocks of a prompt by id: equal ids are equal tokens. Laid out in one endless stream, block ``id`` is
at offset ``id * block_size_tokens``; neighbours in a prompt that are neighbours there too become one part.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from sim.workloads.program import Context, Part

Pieces = Iterable[Part]


def block_parts(
    ids: Sequence[int], block_size_tokens: int, prompt_tokens: int, context: Context, stream: int, tail_stream: int
) -> tuple[Part, ...]:
    """The parts of a prompt of ``prompt_tokens``: its blocks, the last one perhaps in part, and from ``tail_stream``
    what the ids do not cover."""
    blocks = (Part(context, stream, block_size_tokens, each * block_size_tokens) for each in ids)
    return joined(fill(blocks, prompt_tokens, Part(context, tail_stream, prompt_tokens)))


def fill(pieces: Pieces, prompt_tokens: int, tail: Part) -> Iterator[Part]:
    """``pieces`` cut off at ``prompt_tokens``, or filled up to it from the stream of ``tail``."""
    for part in chain(pieces, (replace(tail, tokens=prompt_tokens),)):
        if prompt_tokens <= part.tokens:
            if prompt_tokens:
                yield Part(part.context, part.stream, prompt_tokens, part.offset)
            return
        yield part
        prompt_tokens -= part.tokens


def joined(pieces: Pieces) -> tuple[Part, ...]:
    """The same tokens in as few parts as possible."""
    parts: list[Part] = []
    for part in pieces:
        last = parts[-1] if parts else None
        if last and (last.context, last.stream, last.offset + last.tokens) == (part.context, part.stream, part.offset):
            parts[-1] = Part(last.context, last.stream, last.tokens + part.tokens, last.offset)
        else:
            parts.append(part)
    return tuple(parts)


class BlockIds:
    """Ids for blocks of text or tokens: equal ids mean equal prompts from the start up to and with that block."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._ids: dict[tuple[int, Hashable], int] = {}

    def of(self, symbols: str | tuple[int, ...]) -> list[int]:
        """Ids of the full blocks of a prompt."""
        ids, parent = [], -1
        for end in range(self._block_size, len(symbols) + 1, self._block_size):
            parent = self._ids.setdefault((parent, symbols[end - self._block_size : end]), len(self._ids))
            ids.append(parent)
        return ids
