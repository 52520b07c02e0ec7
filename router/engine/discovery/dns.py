"""Replicas found by DNS: every address of a name (A, AAAA), or the targets and ports of an SRV record.

A name that does not resolve keeps the replicas that were there: if they are really gone, their health says so.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import dns.asyncresolver
import dns.exception
from dns.rdtypes.IN.SRV import SRV

from router.engine.discovery.address import ReplicaAddress
from router.engine.discovery.source import Addresses, distinct
from router.engine.trouble import Troubles

LOOKUP_TIMEOUT_S = 5.0


class DnsError(Exception):
    """The name could not be looked up."""


class DnsDiscovery:
    """Looks ``name`` up every ``interval_s``. ``port`` None: ask for SRV, whose answers carry the port.

    ``template`` gives what all replicas have in common: scheme and path of its URL, and its options.
    """

    def __init__(
        self,
        name: str,
        port: int | None,
        troubles: Troubles,
        interval_s: float = 10.0,
        template: ReplicaAddress = ReplicaAddress("http://replica"),  # noqa: B008 - frozen
    ) -> None:
        self._name = name
        self._port = port
        self._troubles = troubles
        self._interval_s = interval_s
        self._template = template

    async def watch(self) -> AsyncIterator[Addresses]:
        told: Addresses | None = None
        while True:
            try:
                addresses = await self.look_up()
            except DnsError as error:
                self._troubles.note("dns", self._name, str(error))
            else:
                if addresses != told:
                    told = addresses
                    yield addresses
            await asyncio.sleep(self._interval_s)

    async def look_up(self) -> Addresses:
        """The replicas as of now, in a fixed order. Raises DnsError."""
        if self._port is None:
            found = await _srv(self._name)
        else:
            found = await _hosts(self._name, self._port)
        return distinct(replace(self._template, url=self._url(host, port)) for host, port in sorted(found))

    def _url(self, host: str, port: int) -> str:
        scheme, _, rest = self._template.url.partition("://")
        path = rest.partition("/")[2]
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"{scheme}://{authority}" + (f"/{path}" if path else "")


async def _hosts(name: str, port: int) -> set[tuple[str, int]]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LOOKUP_TIMEOUT_S):
            found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError) as error:
        raise DnsError(f"cannot look up {name}: {error or 'no answer in time'}") from error
    return {(str(address[0]), port) for *_, address in found}


async def _srv(name: str) -> set[tuple[str, int]]:
    try:
        answer = await dns.asyncresolver.resolve(name, "SRV", lifetime=LOOKUP_TIMEOUT_S)
    except (dns.exception.DNSException, OSError) as error:
        raise DnsError(f"cannot look up SRV {name}: {error}") from error
    records = [cast(SRV, record) for record in answer]
    return {(record.target.to_text(omit_final_dot=True), record.port) for record in records}
