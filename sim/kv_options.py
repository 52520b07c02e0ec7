"""The options of ``weft sim-replicas`` that say how keys and values go from one replica to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sim.engine import KvLoadFailurePolicy, Profile, TransferModel
from sim.replica.settings import KvTransfer

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--kv-transfer", is_flag=True,
                 help="Replicas hand KV over; with --prefill, --decode or --kv-storage they do anyway."),
    click.option("--kv-gbps", type=click.FloatRange(min=0, min_open=True), default=200.0, show_default=True,
                 help="Gigabits a second of each replica's network, either way."),
    click.option("--kv-latency-ms", type=click.FloatRange(min=0), default=2.0, show_default=True,
                 help="Of each transfer."),
    click.option("--kv-bytes-per-token", type=click.IntRange(min=1), help="Default: the profile's."),
    click.option("--kv-load-failure-policy", type=click.Choice(KvLoadFailurePolicy, case_sensitive=False),
                 help="What a request comes to whose KV cannot be fetched; default: fail."),
    click.option("--kv-lease", "kv_lease_duration_s", type=click.FloatRange(min=0, min_open=True),
                 help="Seconds for which the KV of a first leg is kept; default: 30."),
    click.option("--side-channel-host", help="Where other replicas come for KV; default: --host."),
    click.option("--side-channel-port", type=click.IntRange(0, 65_535), default=5600, show_default=True,
                 help="Of the first replica."),
    click.option("--kv-storage", type=click.Path(file_okay=False, path_type=Path),
                 help="KV goes through this folder (ExampleConnector) instead of over NIXL."),
)  # fmt: skip


def kv_options(command: Command) -> Command:
    """Adds them. The failure policy and the lease belong to the engine's configuration."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_kv_transfer(
    profile: Profile,
    *,
    gbps: float,
    latency_ms: float,
    bytes_per_token: int | None,
    host: str,
    port: int,
    storage: Path | None,
) -> KvTransfer:
    """Raises ValueError when nobody says how large the KV of a token is."""
    size_bytes = bytes_per_token or profile.kv_bytes_per_token
    if size_bytes is None:
        raise ValueError(f"the profile {profile.name} has no kv_bytes_per_token: give --kv-bytes-per-token")
    return KvTransfer(TransferModel(size_bytes, gbps * 1e9 / 8, latency_ms / 1000), host, port, storage)
