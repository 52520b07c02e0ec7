"""What Envoy says of itself, and how it is told to take no more clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp

_POLL_S = 0.05


class EnvoyAdmin:
    """Speaks to the admin interface on a socket of the file system. ``async with`` closes its connections."""

    def __init__(self, socket: str) -> None:
        timeout = aiohttp.ClientTimeout(total=5.0)
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket), timeout=timeout)

    async def __aenter__(self) -> EnvoyAdmin:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def wait_until_ready(self) -> None:
        """Until it serves clients; for ever if it does not."""
        await _until(self._is_ready)

    async def listeners(self) -> dict[str, str]:
        """Where each listener listens: ``HOST:PORT``, or a path."""
        async with self._session.get("http://envoy/listeners?format=json") as answer:
            content = await answer.json(content_type=None)
        return {each["name"]: _address(each["local_address"]) for each in content["listener_statuses"]}

    async def drain(self) -> None:
        """No new connections; who has one is told to close it after the answer."""
        for query in ("?graceful&skip_exit", ""):
            async with self._session.post("http://envoy/drain_listeners" + query):
                pass

    async def wait_until_idle(self) -> None:
        """Until no request is under way."""
        await _until(self._is_idle)

    async def counter(self, name: str) -> int:
        """A counter or gauge; 0 for one that does not exist yet."""
        query = urlencode({"filter": f"^{name}$", "format": "json"})
        async with self._session.get(f"http://envoy/stats?{query}") as answer:
            stats = (await answer.json(content_type=None))["stats"]
        return int(stats[0]["value"]) if stats else 0

    async def _is_idle(self) -> bool:
        return await self.counter("http.weft.downstream_rq_active") == 0

    async def _is_ready(self) -> bool:
        try:
            async with self._session.get("http://envoy/ready") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await holds():
            return
        await asyncio.sleep(_POLL_S)


def _address(content: dict[str, Any]) -> str:
    if "pipe" in content:
        return str(content["pipe"]["path"])
    host, port = content["socket_address"]["address"], content["socket_address"]["port_value"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
