"""Where replicas listen, as Envoy wants it: an IP address and a port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from ipaddress import ip_address
from socket import AF_INET, SOCK_STREAM

from router.core.fleet import Fleet
from router.core.types import ReplicaSpec
from router.errors import ApiError
from router.extproc.names import endpoint_of, host_of
from router.proxy.origin import Origin

REFRESH_S = 30.0
"""A name is looked up again after this."""

_log = logging.getLogger("weft.extproc")


class Addresses:
    """``ip:port`` by URL. Names are looked up when they are first needed, and again now and then in the background."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, str] = {}
        self._stale_s: dict[str, float] = {}
        """By URL whose host is a name: when to look it up again."""
        self._lookups: dict[str, asyncio.Task[str]] = {}

    def known(self, spec: ReplicaSpec) -> str | None:
        """The address, if it is known; None: ask ``find``."""
        address = self._known.get(spec.url)
        if address is None:
            return self._literal(spec.url)
        if self._stale_s and self._stale_s.get(spec.url, float("inf")) < self._clock():
            self._look_up(spec.url)
        return address

    async def find(self, spec: ReplicaSpec) -> str:
        """Raises ApiError 503 when the name of the replica's host says nothing."""
        address = self.known(spec)
        if address is not None:
            return address
        try:
            return await asyncio.shield(self._look_up(spec.url))
        except OSError as error:
            message = f"The host of replica {spec.name} cannot be looked up: {error}."
            raise ApiError(503, message, type="service_unavailable", code="no_replica") from error

    async def named(self, hosts: frozenset[str], fleet: Fleet) -> frozenset[str]:
        """The replicas that listen on one of these IP addresses, whatever the port."""
        found = set()
        for _, spec in list(fleet):
            try:
                if host_of(await self.find(spec)) in hosts:
                    found.add(spec.name)
            except ApiError:
                continue
        return frozenset(found)

    def close(self) -> None:
        for lookup in self._lookups.values():
            lookup.cancel()

    def _literal(self, url: str) -> str | None:
        """The address of a URL that holds an IP address."""
        origin = Origin.parse(url)
        try:
            address = endpoint_of(str(ip_address(origin.host)), origin.port)
        except ValueError:
            return None
        self._known[url] = address
        return address

    def _look_up(self, url: str) -> asyncio.Task[str]:
        lookup = self._lookups.get(url)
        if lookup is None:
            self._stale_s.pop(url, None)
            lookup = self._lookups[url] = asyncio.create_task(self._resolve(url))
            lookup.add_done_callback(lambda done: self._looked_up(url, done))
        return lookup

    async def _resolve(self, url: str) -> str:
        origin = Origin.parse(url)
        found = await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=SOCK_STREAM)
        best = min(found, key=lambda each: each[0] != AF_INET)
        return endpoint_of(str(best[4][0]), origin.port)

    def _looked_up(self, url: str, done: asyncio.Task[str]) -> None:
        """A name that cannot be looked up any more keeps the address that it had."""
        del self._lookups[url]
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._known[url] = done.result()
        else:
            _log.warning("%s cannot be looked up: %s", url, error)
        if url in self._known:
            self._stale_s[url] = self._clock() + REFRESH_S
