"""The file from which Envoy learns the replicas, kept up to date with Weft's fleet."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from router.core.fleet import Fleet
from router.core.types import Health, ReplicaSpec
from router.envoy.clusters import REPLICAS
from router.envoy.places import Place, place_of
from router.errors import ApiError

logger = logging.getLogger("weft.envoy")

POLL_S = 0.1
"""How late Envoy may learn of a replica. Until then requests for it go to the next one that Weft named."""
LOOK_UP_S = 30.0
"""How late Envoy may learn that a name stands for another address."""

Find = Callable[[ReplicaSpec], Awaitable[str]]
"""Raises ApiError for a name that nobody knows."""


def write_endpoints(path: Path, places: Sequence[Place]) -> None:
    """Puts the new file in the place of the old one: Envoy takes notice of that, and never reads half a file."""
    assignment = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": REPLICAS,
        "endpoints": [{"lb_endpoints": [place.endpoint() for place in places]}],
    }
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"resources": [assignment]}), encoding="utf-8")
    os.replace(draft, path)


async def follow(fleet: Fleet, path: Path, find: Find) -> None:
    """Writes the file whenever the fleet changes, until cancelled. ``find`` looks up a replica's ``IP:PORT``."""
    written: list[Place] = []
    seen, looked_up_s = -1, 0.0
    clock = asyncio.get_running_loop().time
    while True:
        if fleet.version != seen or clock() > looked_up_s + LOOK_UP_S:
            seen, looked_up_s = fleet.version, clock()
            places = await places_of(fleet, find)
            if places != written:
                write_endpoints(path, places)
                written = places
        await asyncio.sleep(POLL_S)


async def places_of(fleet: Fleet, find: Find) -> list[Place]:
    """The fleet by address; of the ranks of one server the healthiest counts. Without those that cannot be found."""
    members = list(fleet)
    found = await asyncio.gather(*(find(spec) for _, spec in members), return_exceptions=True)
    places: dict[str, Place] = {}
    for (slot, spec), address in zip(members, found, strict=True):
        if isinstance(address, ApiError):
            continue
        if isinstance(address, BaseException):
            raise address
        known = places.get(address)
        if known is not None and known.health is Health.HEALTHY:
            continue
        try:
            places[address] = place_of(spec.url, address, fleet.health[slot])
        except ValueError as error:
            logger.warning("envoy is not told of a replica: %s", error)
    return [places[address] for address in sorted(places)]
