"""`weft serve --envoy`: an Envoy of our own in front of a running Weft."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp

from router.core.fleet import Fleet as Replicas
from router.envoy.admin import EnvoyAdmin
from router.envoy.bootstrap import LISTENER, to_yaml
from router.envoy.endpoints import Find, follow, write_endpoints
from router.envoy.process import EnvoyProcess
from router.envoy.settings import EnvoySettings, Fleet
from router.envoy.tls import authorities_of_replicas
from router.proxy.listener import split_address

logger = logging.getLogger("weft.envoy")

START_TIMEOUT_S = 20.0


class EnvoyStartError(Exception):
    """Envoy does not serve; it has said why."""


class Workplace:
    """A directory for what Weft and its Envoy share: sockets, endpoints, the configuration. Nobody else can enter."""

    def __init__(self, path: Path) -> None:
        self.admin = f"unix:{path / 'admin.sock'}"
        self.extproc = f"unix:{path / 'extproc.sock'}"
        self.endpoints = path / "endpoints.json"
        self.configuration = path / "envoy.yaml"

    def furnish(self, settings: EnvoySettings) -> None:
        """Writes what Envoy reads at its start. Raises ValueError for settings that cannot be."""
        secure = not settings.limits.upstream_verify or Path(authorities_of_replicas(settings.limits)).exists()
        fleet = Fleet(endpoints_file=self.endpoints, secure=secure)
        chosen = replace(settings, admin=self.admin, fleet=fleet, health_checks=False)
        self.configuration.write_text(to_yaml(chosen), encoding="utf-8")
        write_endpoints(self.endpoints, [])


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Removed at the end."""
    with tempfile.TemporaryDirectory(prefix="weft-envoy-", ignore_cleanup_errors=True) as directory:
        yield Workplace(Path(directory))


@asynccontextmanager
async def envoy_in_front(
    binary: Path,
    place: Workplace,
    settings: EnvoySettings,
    replicas: Replicas,
    find: Find,
    drains: Callable[[], None],
) -> AsyncIterator[EnvoyProcess]:
    """A running Envoy that serves, with ``settings``' addresses and the fleet's replicas.

    At the end it takes no more clients, ``drains`` is called, and running answers have ``drain_s`` to finish. Raises
    ValueError for settings that cannot be, EnvoyStartError.
    """
    place.furnish(settings)
    _check_free(settings.listen)
    envoy = EnvoyProcess(binary, place.configuration)
    await envoy.start()
    following = asyncio.create_task(follow(replicas, place.endpoints, find), name="weft: envoy's endpoints")
    try:
        async with EnvoyAdmin(place.admin.removeprefix("unix:")) as admin:
            await _ready(envoy, admin)
            logger.info("envoy listens on %s", (await admin.listeners())[LISTENER])
            yield envoy
            drains()
            if not envoy.died.is_set():
                await _drain(admin, settings.limits.drain_s)
    finally:
        following.cancel()
        await envoy.stop()


def _check_free(address: str) -> None:
    """Envoys may share a port, and would share the clients without a word. Raises EnvoyStartError."""
    if address.startswith("unix:"):
        return
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EnvoyStartError(f"envoy cannot listen on {address}: {error}") from error


async def _ready(envoy: EnvoyProcess, admin: EnvoyAdmin) -> None:
    died = asyncio.create_task(envoy.died.wait())
    ready = asyncio.create_task(admin.wait_until_ready())
    try:
        await asyncio.wait((died, ready), timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if envoy.died.is_set():
            raise EnvoyStartError(f"envoy ended at its start with status {envoy.status}")
        if not ready.done():
            raise EnvoyStartError(f"envoy did not serve within {START_TIMEOUT_S:g} s")
    finally:
        died.cancel()
        ready.cancel()


async def _drain(admin: EnvoyAdmin, limit_s: float) -> None:
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(limit_s):
            await admin.drain()
            await admin.wait_until_idle()
