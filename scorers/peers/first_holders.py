"""Who was the first to be sent a prefix: the owner of a node in vllm-project/router's tree."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Container, Sequence


class FirstHolders:
    """A replica for each chunk hash, ``max_chunks`` of them; the least recently sent are forgotten first, and of one
    prompt its end, so that what is known of a prompt is always a prefix of it."""

    def __init__(self, max_chunks: int) -> None:
        self.max_chunks = max_chunks
        self._first: OrderedDict[int, str] = OrderedDict()

    def find(self, chunks: Sequence[int]) -> tuple[int, str]:
        """How many chunks of the prompt are known, and the first holder of the last one ("" if none is)."""
        known = bisect_left(chunks, True, key=lambda chunk: chunk not in self._first)
        return known, self._first[chunks[known - 1]] if known else ""

    def add(self, chunks: Sequence[int], name: str, present: Container[str]) -> None:
        """A prompt goes to ``name``, which takes what nobody has, or somebody who is no longer present."""
        first = self._first
        for chunk in reversed(chunks):
            if first.get(chunk, "") not in present:
                first[chunk] = name
            first.move_to_end(chunk)
        while len(first) > self.max_chunks:
            first.popitem(last=False)
