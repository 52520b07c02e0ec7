"""Serves a number of simulated replicas from one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from router.core.types import Role
from sim.replica.language import Language
from sim.replica.replica import Replica
from sim.replica.settings import Settings


@asynccontextmanager
async def serve_replicas(
    count: int, settings: Settings, *, prefill: int = 0, decode: int = 0
) -> AsyncIterator[Sequence[Replica]]:
    """``count`` replicas alike, then those for either leg, on consecutive ports from those in ``settings``.

    Port 0 lets each have any free one. Raises OSError when a port is taken.
    """
    roles = [settings.role] * count + [Role.PREFILL] * prefill + [Role.DECODE] * decode
    language = Language()
    async with AsyncExitStack() as stack:
        stack.callback(language.close)
        replicas = []
        for index, role in enumerate(roles):
            replica = Replica(_numbered(replace(settings, role=role), index), language)
            await replica.start()
            stack.push_async_callback(replica.stop)
            replicas.append(replica)
        yield replicas


def _numbered(settings: Settings, index: int) -> Settings:
    events, transfer = settings.kv_events_port, settings.kv_transfer
    return replace(
        settings,
        index=index,
        port=_shifted(settings.port, index),
        kv_events_port=None if events is None else _shifted(events, index),
        kv_replay_port=_shifted(settings.kv_replay_port, index),
        kv_transfer=None if transfer is None else replace(transfer, port=_shifted(transfer.port, index)),
    )


def _shifted(port: int, index: int) -> int:
    return port + index if port else 0
