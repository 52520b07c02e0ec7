"""Makes the connector that a replica's settings ask for."""

from __future__ import annotations

from collections.abc import Callable

from sim.engine import Engine
from sim.replica.faults import Condition
from sim.replica.kv_transfer.connector import Connector, NoConnector
from sim.replica.kv_transfer.nixl import NixlConnector
from sim.replica.kv_transfer.shared_storage import SharedStorage
from sim.replica.metrics import Metrics
from sim.replica.settings import Settings


def make_connector(
    settings: Settings,
    port: int,
    engine: Engine,
    metrics: Metrics,
    condition: Callable[[], Condition],
    on_release: Callable[[], None],
) -> Connector:
    """``port``: where other replicas come, 0 for any. ``on_release``: blocks of the engine have become free."""
    transfer = settings.kv_transfer
    if transfer is None:
        return NoConnector()
    if transfer.storage is not None:
        return SharedStorage(transfer, transfer.storage, settings.engine.block_size_tokens, settings.speed)
    if metrics.nixl is None:
        raise ValueError("the metrics are those of a replica without NIXL")
    return NixlConnector(transfer, port, engine, settings.speed, metrics.nixl, condition, on_release)
