"""Block ids of a Claude Code program, laid on token streams: see ``sim.workloads.traces.weka``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from sim.workloads.program import Context, Part
from sim.workloads.traces.blocks import fill, joined


@dataclass(slots=True)
class SharedHeads:
    """Streams of tool definitions and system prompts, one for each length, for all programs of a trace."""

    streams: Iterator[int]
    _known: dict[tuple[int, ...], int] = field(default_factory=dict)

    def stream(self, *lengths_tokens: int) -> int:
        if lengths_tokens not in self._known:
            self._known[lengths_tokens] = next(self.streams)
        return self._known[lengths_tokens]


@dataclass(slots=True, frozen=True)
class Prompt:
    """A prompt as it was sent, and its answer."""

    ids: tuple[int, ...]
    blocks: tuple[Part, ...]
    """What the ids cover."""
    tokens: int
    tail: Part
    """What the ids do not cover: no tokens, or less than a block."""
    answer: Part

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(fill(self.blocks, self.tokens, self.tail))

    def begins(self, ids: tuple[int, ...]) -> bool:
        return ids[: len(self.ids)] == self.ids

    def followed_by(self, grown_tokens: int) -> tuple[Part, ...]:
        """What comes after the blocks in a prompt that continues this one and is so much longer."""
        rest = (self.tail, self.answer) if grown_tokens >= self.answer.tokens else (self.tail,)
        return tuple(part for part in rest if part.tokens)


@dataclass(slots=True)
class Blocks:
    """Which tokens each block id of one program stands for. An id keeps what it was first given."""

    size_tokens: int
    heads: SharedHeads
    own_stream: int
    _pieces: dict[int, tuple[Part, ...]] = field(default_factory=dict)

    def name_head(self, ids: Sequence[int], tools_tokens: int, system_tokens: int) -> None:
        """``ids`` begin with tool definitions and a system prompt of these lengths, in whole blocks."""
        tools_blocks = tools_tokens // self.size_tokens
        blocks = (tools_tokens + system_tokens) // self.size_tokens
        tools, system = self.heads.stream(tools_tokens), self.heads.stream(tools_tokens, system_tokens)
        self._name(ids[:tools_blocks], Context.TOOLS, tools)
        self._name(ids[tools_blocks:blocks], Context.SYSTEM, system)

    def _name(self, ids: Sequence[int], context: Context, stream: int) -> None:
        for index, each in enumerate(ids):
            self._pieces.setdefault(each, (Part(context, stream, self.size_tokens, index * self.size_tokens),))

    def lay(self, ids: Sequence[int], written: tuple[Part, ...], context: Context) -> None:
        """``ids`` hold the tokens of ``written``, and after them tokens of their own, which are of kind ``context``."""
        start = 0
        for each in ids:
            inside = _between(written, start, start + self.size_tokens)
            covered = sum(part.tokens for part in inside)
            if not covered or each in self._pieces:
                return
            if left := self.size_tokens - covered:
                inside += (Part(context, self.own_stream, left, each * self.size_tokens + covered),)
            self._pieces[each] = inside
            start += self.size_tokens

    def parts(self, ids: tuple[int, ...], context: Context, before: Prompt | None) -> tuple[Part, ...]:
        """The tokens of ``ids``; those of new ones are of kind ``context``. ``before`` only saves time."""
        done: tuple[Part, ...] = ()
        if before and before.begins(ids):
            done, ids = before.blocks, ids[len(before.ids) :]
        pieces = (part for each in ids for part in self._piece(each, context))
        return (*done[:-1], *joined(chain(done[-1:], pieces)))

    def _piece(self, block_id: int, context: Context) -> tuple[Part, ...]:
        pieces = self._pieces.get(block_id)
        if pieces is None:
            pieces = (Part(context, self.own_stream, self.size_tokens, block_id * self.size_tokens),)
            self._pieces[block_id] = pieces
        return pieces


def _between(parts: tuple[Part, ...], start: int, end: int) -> tuple[Part, ...]:
    """Tokens ``start`` to ``end`` of ``parts``."""
    found: list[Part] = []
    position = 0
    for part in parts:
        first, last = max(start, position), min(end, position + part.tokens)
        if first < last:
            found.append(Part(part.context, part.stream, last - first, part.offset + first - position))
        position += part.tokens
    return tuple(found)
