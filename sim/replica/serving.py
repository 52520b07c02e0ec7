"""Serves a number of simulated replicas from one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from sim.replica.language import Language
from sim.replica.replica import Replica
from sim.replica.settings import Settings


@asynccontextmanager
async def serve_replicas(count: int, settings: Settings) -> AsyncIterator[Sequence[Replica]]:
    """``count`` replicas alike, on consecutive ports from those in ``settings``; 0 lets each have any free port.

    Raises OSError when a port is taken.
    """
    language = Language()
    async with AsyncExitStack() as stack:
        stack.callback(language.close)
        replicas = []
        for index in range(count):
            replica = Replica(_numbered(settings, index), language)
            await replica.start()
            stack.push_async_callback(replica.stop)
            replicas.append(replica)
        yield replicas


def _numbered(settings: Settings, index: int) -> Settings:
    events = settings.kv_events_port
    return replace(
        settings,
        index=index,
        port=_shifted(settings.port, index),
        kv_events_port=None if events is None else _shifted(events, index),
        kv_replay_port=_shifted(settings.kv_replay_port, index),
    )


def _shifted(port: int, index: int) -> int:
    return port + index if port else 0
