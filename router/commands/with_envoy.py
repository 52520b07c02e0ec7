"""`weft serve --envoy`: what Weft's configuration means for an Envoy in front of it, and an Envoy that runs by that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import click

from router.app import App
from router.config import ConfigError, WeftConfig
from router.envoy.front import EnvoyStartError, Workplace, envoy_in_front
from router.envoy.process import EnvoyMissingError, find_envoy
from router.envoy.settings import EnvoySettings, Tls
from router.proxy.listener import split_address

DEFAULT_ADDRESS = "127.0.0.1:10000"

Front = Callable[[App], AbstractAsyncContextManager[asyncio.Event]]
"""What stands before a running Weft. The event: it has gone, and Weft should go too."""


@asynccontextmanager
async def nothing(_: App) -> AsyncIterator[asyncio.Event]:
    """Clients come to Weft itself."""
    yield asyncio.Event()


def installed_envoy() -> Path:
    """Raises ConfigError."""
    # Envoy's process is forked off one that runs gRPC. It runs Envoy at once, so gRPC need not take care of it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        return find_envoy()
    except EnvoyMissingError as error:
        raise ConfigError(f"--envoy: {error}") from error


def behind_envoy(config: WeftConfig, place: Workplace) -> WeftConfig:
    """Weft listens for Envoy, and names as many replicas as the proxy would try, unless it is told otherwise.

    Raises ConfigError.
    """
    tls = config.extproc.tls
    if config.extproc.listen and tls is not None and tls.client_ca is not None:
        raise ConfigError("extproc.tls.client_ca: the Envoy of --envoy has no certificate to show")
    changes: dict[str, object] = {}
    if not config.extproc.listen:
        changes |= {"listen": place.extproc, "tls": None}
    if "fallbacks" not in config.extproc.model_fields_set:
        changes["fallbacks"] = max(config.limits.max_tries - 1, 0)
    return config.model_copy(update={"extproc": config.extproc.model_copy(update=changes)})


def envoy_at(address: str, binary: Path, place: Workplace, config: WeftConfig) -> Front:
    """An Envoy that listens on ``address``; ``config`` comes from `behind_envoy`."""

    @asynccontextmanager
    async def front(app: App) -> AsyncIterator[asyncio.Event]:
        if app.picking is None:
            raise ConfigError("--envoy: there is no ext-proc server")
        settings = EnvoySettings(
            listen=address,
            extproc=_reachable(config.extproc.listen, app.picking.server.port),
            weft="" if config.listen == "none" else _reachable(config.listen, app.listener.port),
            extproc_tls=None if config.extproc.tls is None else Tls(),
            max_wait_s=config.queue.max_wait_s,
            limits=config.limits,
        )
        find, drain = app.picking.addresses.find, app.dispatcher.drain
        try:
            async with envoy_in_front(binary, place, settings, app.router.fleet, find, drain) as envoy:
                yield envoy.died
        except ValueError as error:
            raise ConfigError(f"--envoy: {error}") from error
        except EnvoyStartError as error:
            raise click.ClickException(str(error)) from error
        if envoy.died.is_set():
            raise click.ClickException(f"envoy has ended by itself, status {envoy.status}")

    return front


def _reachable(listens: str, port: int) -> str:
    """Where a server of this machine can be dialled that listens on ``listens``, and got ``port``."""
    if listens.startswith("unix:"):
        return listens
    host, _ = split_address(listens)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
