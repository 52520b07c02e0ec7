"""A listening socket and the connections that came through it."""

from __future__ import annotations

import asyncio

from router.proxy.proxy import Proxy
from router.proxy.server import ClientConnection

BACKLOG = 4096


class Listener:
    """Accepts clients for a proxy on ``host:port``, ``[ipv6]:port``, ``:port`` or ``unix:/path``."""

    def __init__(self, proxy: Proxy, address: str) -> None:
        self._proxy = proxy
        self._address = address
        self._clients: set[ClientConnection] = set()
        self._all_gone = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.port = 0
        """The TCP port that is listened on, known after ``start``."""

    async def start(self) -> None:
        """Raises OSError when the address cannot be used, ValueError when it is not one."""
        loop = asyncio.get_running_loop()
        if self._address.startswith("unix:"):
            path = self._address.removeprefix("unix:")
            self._server = await loop.create_unix_server(self._client, path, backlog=BACKLOG)
        else:
            host, port = split_address(self._address)
            self._server = await loop.create_server(self._client, host or None, port, backlog=BACKLOG)
            self.port = self._server.sockets[0].getsockname()[1]

    async def drain(self) -> None:
        """Accept nothing more, let running answers end, and after ``drain_s`` cut off what is left."""
        if self._server is None:
            return
        self._server.close()
        for client in list(self._clients):
            client.drain()
        if not await self._wait_until_gone(self._proxy.limits.drain_s):
            for client in list(self._clients):
                client.reset()
            await self._wait_until_gone(self._proxy.limits.linger_s)
        await self._server.wait_closed()

    def _client(self) -> ClientConnection:
        client = ClientConnection(self._proxy, self._client_lost)
        self._clients.add(client)
        return client

    def _client_lost(self, client: ClientConnection) -> None:
        self._clients.discard(client)
        if not self._clients:
            self._all_gone.set()

    async def _wait_until_gone(self, limit_s: float) -> bool:
        self._all_gone.clear()
        if not self._clients:
            return True
        try:
            async with asyncio.timeout(limit_s):
                await self._all_gone.wait()
        except TimeoutError:
            return False
        return True


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` in its two parts; the host is empty for all interfaces. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"listen address {address!r} must look like 0.0.0.0:8080 or unix:/run/weft.sock")
    return host.removeprefix("[").removesuffix("]"), int(port)
