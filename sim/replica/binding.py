"""Binding again to a port that has just been closed, which takes a moment to become free."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

ATTEMPTS = 50
PAUSE_S = 0.02


async def bound(listen: Callable[[], Awaitable[asyncio.Server]]) -> asyncio.Server:
    """Raises OSError when the port is still taken after a second."""
    for _ in range(ATTEMPTS):
        try:
            return await listen()
        except OSError:
            await asyncio.sleep(PAUSE_S)
    return await listen()


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port
