"""Simulated replicas and a router in front of them, as processes of their own, stopped whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import aiohttp

from sim.model import MODEL_DIRECTORY

READY_TIMEOUT_S = 120.0
"""The first router after an installation compiles its kernels."""

POLL_S = 0.1
STOP_TIMEOUT_S = 5.0
LOG_TAIL_LINES = 12

_Result = TypeVar("_Result")


class FleetError(Exception):
    """A process did not start, or ended while it was needed. The message holds the end of its log."""


@dataclass(slots=True, frozen=True)
class Process:
    """A subprocess, and the file that it writes its log to."""

    name: str
    log: Path
    process: asyncio.subprocess.Process

    async def ended(self) -> NoReturn:
        """Waits until the process ends, which is an error as long as anybody waits."""
        code = await self.process.wait()
        raise FleetError(f"{self.name} ended with exit code {code}{self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return ":\n" + "\n".join(f"  {line}" for line in lines) if lines else " and printed nothing"

    async def stop(self) -> None:
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), STOP_TIMEOUT_S)
        finally:
            if self.process.returncode is None:
                self.process.kill()


@dataclass(slots=True)
class Fleet:
    """Where the parts listen. Made by ``running_fleet``."""

    http: aiohttp.ClientSession
    router_url: str
    replica_urls: list[str]
    processes: list[Process]
    model: str = ""
    """Served name of the simulated model."""

    async def during(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """The result of ``work``. Raises FleetError when a process ends before it does."""
        working = asyncio.ensure_future(work)
        deaths = [asyncio.ensure_future(each.ended()) for each in self.processes]
        try:
            await asyncio.wait([working, *deaths], return_when=asyncio.FIRST_COMPLETED)
            for death in deaths:
                if death.done():
                    death.result()
            return await working
        finally:
            for task in (working, *deaths):
                task.cancel()
            await asyncio.gather(working, *deaths, return_exceptions=True)


@contextlib.asynccontextmanager
async def running_fleet(
    replicas: int, engine_profile: str, options: Sequence[str], directory: Path
) -> AsyncIterator[Fleet]:
    """A fleet that is ready for requests. ``options``: of the router. Logs go to ``directory``.

    Raises FleetError when a part does not get ready.
    """
    port, router_port = free_port(in_a_row=replicas), free_port()
    router_url = f"http://127.0.0.1:{router_port}"
    replica_urls = [f"http://127.0.0.1:{port + number}" for number in range(replicas)]
    simulate = ["sim-replicas", f"--count={replicas}", f"--port={port}", f"--profile={engine_profile}"]
    simulate += ["--kv-events-port=0", "--kv-replay-port=0"]
    serve = ["serve", *options, f"--listen=127.0.0.1:{router_port}"]
    serve += [f"--tokenizer={MODEL_DIRECTORY}", *(f"--replica={url}" for url in replica_urls)]
    async with contextlib.AsyncExitStack() as stack:
        processes = []
        for name, command in (("the simulated replicas", simulate), ("the router", serve)):
            process = await _start(name, command, directory / f"{router_port}-{command[0]}.log")
            stack.push_async_callback(process.stop)
            processes.append(process)
        # Entered last, so that its connections are closed before those who serve them are stopped.
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        fleet = Fleet(http, router_url, replica_urls, processes)
        fleet.model = await fleet.during(_model_when_ready(fleet))
        yield fleet


def free_port(in_a_row: int = 1) -> int:
    """The first of so many ports of this machine on which nobody listens."""
    while True:
        # Below the ports that the system hands out by itself, so that none is taken in the meantime.
        first = random.randrange(20_000, 32_000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + in_a_row):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


async def _start(name: str, command: Sequence[str], log: Path) -> Process:
    # A session of its own: Ctrl-C is for the demo, which then stops its processes in order.
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "router.cli", *command,
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    return Process(name, log, process)


async def _model_when_ready(fleet: Fleet) -> str:
    """Name of the model that the replicas serve, once the router can send requests to all of them."""
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                if await _healthy(fleet) == len(fleet.replica_urls):
                    break
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        said = "".join(f"\n{each.name}{each.last_words()}" for each in fleet.processes)
        raise FleetError(f"the router did not find its replicas healthy in {READY_TIMEOUT_S:.0f} s{said}") from error
    async with fleet.http.get(f"{fleet.router_url}/v1/models") as response:
        models = await response.json()
    return str(models["data"][0]["id"])


async def _healthy(fleet: Fleet) -> int:
    """How many replicas the router sends requests to; 0 as long as it does not listen."""
    try:
        async with fleet.http.get(f"{fleet.router_url}/ready") as response:
            states = (await response.json())["replicas"].values()
    except aiohttp.ClientConnectionError:
        return 0
    return sum(state == "healthy" for state in states)
