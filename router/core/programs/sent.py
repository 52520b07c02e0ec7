"""Where a program's last prompts ended, to see what is computed again and what goes in circles.

A prompt that begins with an earlier one of its program has that one's last block hash at its place, so the ends of
earlier prompts are all that need be kept.
"""

from __future__ import annotations

from array import array

from router.core.types import Hashes

_PROMPTS = 16


class Sent:
    """The ends of the last 16 prompts, and how often the last one came in a row."""

    __slots__ = ("_blocks", "_hashes", "_last_key", "_repeats")

    def __init__(self) -> None:
        # Newest first: where prompts grow, it is the longest, and the others need not be looked at.
        self._blocks = array("I")
        self._hashes = array("Q")
        self._last_key: int | None = None
        self._repeats = 0
        """How often the last prompt has come again in a row."""

    def begin(self, blocks: int, last_hash: int) -> None:
        """The first prompt was sent: so many blocks, the last of them with this hash."""
        self._keep(blocks, last_hash)

    def note(self, hashes: Hashes) -> int:
        """A prompt with these block hashes is sent. Returns how many of its first blocks were sent before."""
        known, size = 0, len(hashes)
        depth = here = 0
        for blocks, end in zip(self._blocks, self._hashes, strict=True):
            if known < blocks <= size:
                if blocks != depth:
                    depth, here = blocks, hashes.item(blocks - 1)
                if here == end:
                    known = blocks
        if size and known < size:
            self._keep(size, int(hashes[-1]))
        return known

    def came(self, key: int | None, is_answered: bool) -> None:
        """The prompt with this key came; None: it has none."""
        self._last_key, self._repeats = key, self.repeats_of(key, is_answered)

    def repeats_of(self, key: int | None, is_answered: bool) -> int:
        """How often the prompt with this key would have come again in a row, if it came now. Where the last one was not
        answered, the same once more is no repeat."""
        return 0 if key is None or key != self._last_key else self._repeats + is_answered

    def _keep(self, blocks: int, end: int) -> None:
        if len(self._blocks) == _PROMPTS:
            self._blocks.pop()
            self._hashes.pop()
        self._blocks.insert(0, blocks)
        self._hashes.insert(0, end)
