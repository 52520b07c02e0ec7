"""Which tokens of a prompt no earlier prompt began with: the misses of an unbounded cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sim.workloads.program import Part


@dataclass(slots=True)
class _Edge:
    tokens: int
    node: _Node


_Node = dict[tuple[int, int], _Edge]
"""From the next token, as (stream, offset), to the stretch that begins with it and what follows."""


class PrefixTree:
    """A radix tree over token streams, in which no stretch is held token by token."""

    def __init__(self) -> None:
        self._root: _Node = {}

    def add(self, parts: Iterable[Part]) -> int:
        """Remember a prompt. Returns how many tokens at its end are new."""
        node, new_tokens = self._root, 0
        for part in parts:
            offset, left = part.offset, part.tokens
            while left:
                edge = node.get((part.stream, offset))
                if edge is None:
                    edge = node[part.stream, offset] = _Edge(left, {})
                    new_tokens += left
                elif left < edge.tokens:
                    rest = _Edge(edge.tokens - left, edge.node)
                    edge.tokens, edge.node = left, {(part.stream, offset + left): rest}
                node = edge.node
                offset += edge.tokens
                left -= edge.tokens
        return new_tokens
