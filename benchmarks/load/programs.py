"""Compiles and runs the two C programs of the harness: the fake replicas and the load generator."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from load.machine import process_tree

_SOURCES = Path(__file__).parent
_STOP_TIMEOUT_S = 8.0


class HarnessError(Exception):
    """The benchmark cannot run. The message says what is missing."""


def compile_programs(to: Path) -> None:
    """Builds ``backend`` and ``client`` in the directory ``to``. Raises HarnessError."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise HarnessError("no C compiler: install one (Debian: apt-get install gcc libc6-dev) or name it in $CC")
    for program in ("backend", "client"):
        command = [compiler, "-O2", "-o", str(to / program), str(_SOURCES / f"{program}.c"), "-lm"]
        compiled = subprocess.run(command, capture_output=True, text=True, check=False)
        if compiled.returncode:
            raise HarnessError(f"{' '.join(command)} failed:\n{compiled.stderr}")


@dataclass(slots=True)
class Program:
    """A running server, pinned to one core, in a process group of its own; its output goes to a log file."""

    command: Sequence[str]
    core: int
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Program:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(self.core), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        tree = process_tree(self._process.pid)
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for descendant in tree[1:]:
            try:
                os.kill(descendant, signal.SIGKILL)
            except ProcessLookupError:
                continue

    @property
    def pid(self) -> int:
        """Its process id. Raises HarnessError with the end of the log when it has ended."""
        if self._process is None or self._process.poll() is not None:
            status = self._process.returncode if self._process else "not started"
            raise HarnessError(f"{self.command[0]} has ended ({status}): {self.log_end()}")
        return self._process.pid

    def log_end(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


def run_client(directory: Path, core: int, arguments: Sequence[str]) -> dict[str, Any]:
    """One run of the load generator; returns what it reports. Raises HarnessError."""
    command = ["taskset", "-c", str(core), str(directory / "client"), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise HarnessError(f"{' '.join(command)} failed: {ran.stderr.strip()}")
    report: dict[str, Any] = json.loads(ran.stdout)
    return report


def control(port: int, path: str) -> dict[str, int]:
    """Asks a fake replica for ``/stats``, or sets its ``/control?step_us=N``."""
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        stats: dict[str, int] = json.load(answer)
    return stats


def free_ports(count: int) -> list[int]:
    """Consecutive ports that nothing listens on just now. Raises HarnessError."""
    for first in range(20_000, 30_000, count):
        if all(map(_is_free, range(first, first + count))):
            return list(range(first, first + count))
    raise HarnessError(f"no {count} consecutive free ports between 20000 and 30000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
