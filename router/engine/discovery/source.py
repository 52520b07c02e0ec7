"""What a discovery is: the full set of replicas, told again whenever it changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from router.engine.discovery.address import AddressError, ReplicaAddress

Addresses = tuple[ReplicaAddress, ...]


class Discovery(Protocol):
    def watch(self) -> AsyncIterator[Addresses]:
        """Yields the whole set at once and after each change, and ends if it can never change again."""
        ...


class StaticDiscovery:
    """Replicas named on the command line or in the configuration."""

    def __init__(self, addresses: Iterable[ReplicaAddress]) -> None:
        """Raises AddressError when one is named twice."""
        self.addresses = distinct(addresses)

    async def watch(self) -> AsyncIterator[Addresses]:
        yield self.addresses


def distinct(addresses: Iterable[ReplicaAddress]) -> Addresses:
    """Raises AddressError when a replica is named twice."""
    by_name: dict[str, ReplicaAddress] = {}
    for address in addresses:
        if address.name in by_name:
            raise AddressError(f"replica {address.url!r} is listed twice")
        by_name[address.name] = address
    return tuple(by_name.values())
