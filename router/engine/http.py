"""One bounded GET of a replica: in time, in size, and with one kind of error."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

HEADERS = {"Accept-Encoding": "identity"}
"""Compressing a scrape costs the replica and us more than sending it."""


class FetchError(Exception):
    """The replica did not give a usable answer. ``status`` is None when there was no answer at all."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RefusedError(FetchError):
    """Nobody listens there."""


@dataclass(slots=True, frozen=True)
class Limits:
    """How long an answer may take and how large it may be."""

    timeout_s: float = 5.0
    size_bytes: int = 8 << 20


async def fetch(session: aiohttp.ClientSession, url: str, limits: Limits) -> bytes:
    """The body of a 200 answer. Raises RefusedError or FetchError."""
    timeout = aiohttp.ClientTimeout(total=limits.timeout_s)
    try:
        async with session.get(url, headers=HEADERS, timeout=timeout, allow_redirects=False) as response:
            if response.status != 200:
                raise FetchError(f"GET {url} answered {response.status}, expected 200", response.status)
            return await _read(response, url, limits.size_bytes)
    except TimeoutError as error:
        raise FetchError(f"GET {url} took longer than {limits.timeout_s:g} s") from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, ConnectionRefusedError):
            raise RefusedError(f"GET {url}: connection refused") from error
        raise FetchError(f"GET {url}: cannot connect: {error}") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(f"GET {url} failed: {error or type(error).__name__}") from error


async def _read(response: aiohttp.ClientResponse, url: str, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > limit_bytes:
            raise FetchError(f"GET {url} sent more than {limit_bytes} bytes", response.status)
        chunks.append(chunk)
    return b"".join(chunks)
