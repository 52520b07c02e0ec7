"""Calls that name the calls they wait for, put into an order in which they can be sent."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence


def sendable_order(waits_for: Mapping[str, Sequence[str]]) -> list[str]:
    """Names in the order given, each moved behind what it waits for. What waits for itself, or for a name that there
    is not, is left out, and so is what waits for that."""
    followers: defaultdict[str, list[str]] = defaultdict(list)
    missing: dict[str, int] = {}
    for name, others in waits_for.items():
        distinct = set(others)
        missing[name] = len(distinct)
        for other in distinct:
            followers[other].append(name)
    ready = deque(name for name in waits_for if not missing[name])
    ordered = []
    while ready:
        name = ready.popleft()
        ordered.append(name)
        for follower in followers[name]:
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    return ordered


def groups(neighbours: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For each name, the first name of those that it is linked with, directly or through others."""
    leader = {name: name for name in neighbours}
    place = {name: index for index, name in enumerate(neighbours)}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    for name, others in neighbours.items():
        for other in others:
            if other in leader:
                low, high = sorted((find(name), find(other)), key=place.__getitem__)
                leader[high] = low
    return {name: find(name) for name in neighbours}
