"""Every block that any replica of the fleet has ever computed: what need not have been computed again."""

from __future__ import annotations

import numpy as np

from router.core.index.jit import as_int, entry_point, kernel
from router.core.types import Hashes


class FleetMemory:
    """A cache that never evicts and sees what all replicas compute. Hashes are never 0."""

    def __init__(self) -> None:
        self._set = np.zeros(1 << 16, np.uint64)
        """Open addressing, at most half full; 0 is a free place."""
        self._count = 0

    def add(self, hashes: Hashes) -> None:
        """Enter blocks that follow each other."""
        hashes = hashes[self.prefix_blocks(hashes) :]
        while 2 * (self._count + len(hashes)) > len(self._set):
            larger = np.zeros(2 * len(self._set), np.uint64)
            _add_entry(larger, self._set)
            self._set = larger
        self._count += _add_entry(self._set, hashes)

    def prefix_blocks(self, hashes: Hashes) -> int:
        """How many leading blocks were computed before."""
        return _prefix_entry(self._set, hashes)


@kernel
def _place(places: Hashes, key: np.uint64) -> int:
    """Where the key is, or would be."""
    place = as_int(key & np.uint64(len(places) - 1))
    while places[place] != 0 and places[place] != key:
        place = (place + 1) & (len(places) - 1)
    return place


@kernel
def _add(places: Hashes, hashes: Hashes) -> int:
    """Enter hashes, zeros left out; how many are new."""
    new = 0
    for i in range(len(hashes)):
        if hashes[i] != 0:
            place = _place(places, hashes[i])
            new += places[place] == 0
            places[place] = hashes[i]
    return new


@kernel
def _prefix(places: Hashes, hashes: Hashes) -> int:
    """A block is only computed after those before it, so the known ones are found by halving."""
    known, unknown = 0, len(hashes) + 1
    while unknown - known > 1:
        middle = (known + unknown) // 2
        if places[_place(places, hashes[middle - 1])] != 0:
            known = middle
        else:
            unknown = middle
    return known


_NO_HASHES = np.empty(0, np.uint64)
_add_entry = entry_point(_add, _NO_HASHES, _NO_HASHES)
_prefix_entry = entry_point(_prefix, _NO_HASHES, _NO_HASHES)
