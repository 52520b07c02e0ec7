"""What every part of the engine side shares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
import zmq

from router.engine.ports import RouterPort
from router.engine.trouble import Troubles


def _new_zmq() -> zmq.Context[zmq.Socket[bytes]]:
    """A subscriber needs up to four sockets, and libzmq's own bound on them is 1023."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 16384)
    return context


@dataclass(slots=True, frozen=True)
class EngineContext:
    router: RouterPort
    session: aiohttp.ClientSession
    clock: Callable[[], float]
    """Seconds; the event loop's own ``time``."""
    troubles: Troubles
    scrapes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(32))
    """How many scrapes of the fleet are under way at once."""
    zmq: zmq.Context[zmq.Socket[bytes]] = field(default_factory=_new_zmq)
