"""How far two replicas are from each other, by their labels."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

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
