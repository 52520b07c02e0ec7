"""How far two replicas are from each other, by their labels."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from router.core.fleet import Fleet
from router.core.types import ReplicaSpec


class Distance(IntEnum):
    """The nearest thing that two replicas share. Lower is nearer."""

    NODE = 0
    RACK = 1
    ZONE = 2
    FAR = 3
    UNKNOWN = 4
    """One of them has no such label."""


LABELS: tuple[str, str, str] = ("node", "rack", "zone")
"""Labels that name a replica's node, rack and zone."""


def distance(one: ReplicaSpec, other: ReplicaSpec, labels: Sequence[str] = LABELS) -> Distance:
    """By the first of ``labels`` (node, rack and zone, nearest first) that both have alike."""
    compared = False
    for level, label in enumerate(labels):
        place, others = one.labels.get(label), other.labels.get(label)
        if place and others:
            if place == others:
                return Distance(level)
            compared = True
    return Distance.FAR if compared else Distance.UNKNOWN


class Topology:
    """Distances between the replicas of a fleet, worked out once for each until the fleet changes."""

    def __init__(self, fleet: Fleet, labels: Sequence[str] = LABELS) -> None:
        self._fleet = fleet
        self._labels = labels
        self._version = -1
        self._from: dict[int, NDArray[np.intp]] = {}

    def distances(self, slot: int) -> NDArray[np.intp]:
        """By slot, from the replica in ``slot``; `Distance` as a number."""
        if self._version != self._fleet.version:
            self._version = self._fleet.version
            self._from.clear()
        found = self._from.get(slot)
        if found is None:
            found = self._from[slot] = np.array([self._distance(slot, other) for other in self._fleet.specs], np.intp)
        return found

    def _distance(self, slot: int, other: ReplicaSpec | None) -> Distance:
        here = self._fleet.specs[slot]
        return Distance.UNKNOWN if here is None or other is None else distance(here, other, self._labels)
