"""What the machine was doing while something was measured: the CPU of our processes, of each core, and memory.

All figures come from ``/proc``, so this is Linux only. Times have the kernel's resolution of one tick (10 ms).
"""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True, frozen=True)
class Usage:
    """CPU seconds used in a stretch of time, and what share of each core others used meanwhile (1.0: all of it)."""

    router_s: float
    foreign_router_core: float
    foreign_load_core: float


class CpuWatch:
    """Measures from its making to ``stop``.

    ``router`` are the processes on ``router_core``; ``replicas`` those on ``load_core``, where this process and the
    children that it waits for run too. What else was busy on the two cores counts as foreign.
    """

    def __init__(self, router: list[int], replicas: list[int], router_core: int, load_core: int) -> None:
        self._router, self._replicas = router, replicas
        self._cores = (router_core, load_core)
        self._start = self._read()

    def stop(self) -> Usage:
        """The usage since this watch was made."""
        router_s, load_s, router_core_s, load_core_s, wall_s = (
            now - before for now, before in zip(self._read(), self._start, strict=True)
        )
        return Usage(
            router_s,
            max(0.0, router_core_s - router_s) / wall_s,
            max(0.0, load_core_s - load_s) / wall_s,
        )

    def _read(self) -> tuple[float, float, float, float, float]:
        return (
            cpu_s(self._router),
            cpu_s(self._replicas) + _own_cpu_s(),
            _core_busy_s(self._cores[0]),
            _core_busy_s(self._cores[1]),
            _uptime_s(),
        )


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes and their living descendants have used."""
    return sum(map(_process_cpu_s, _trees(pids)))


def cpu_s_by_name(pids: Iterable[int]) -> dict[str, float]:
    """The same by the names of the programs."""
    seconds: dict[str, float] = {}
    for pid in _trees(pids):
        name = _read_text(Path(f"/proc/{pid}/comm")).strip()
        seconds[name] = seconds.get(name, 0.0) + _process_cpu_s(pid)
    return seconds


def memory_mb(pids: Iterable[int]) -> float:
    """Resident memory of these processes and their descendants, in 10^6 bytes."""
    return sum(map(_process_pages, _trees(pids))) * _PAGE_BYTES / 1e6


def describe() -> dict[str, str | int | float]:
    """The machine, for the record."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def process_tree(pid: int) -> list[int]:
    """``pid`` and its descendants; what has ended in the meantime is left out."""
    tree = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read_text(children).split():
            tree += process_tree(int(child))
    return tree


def _trees(pids: Iterable[int]) -> list[int]:
    return [each for pid in pids for each in process_tree(pid)]


def _process_cpu_s(pid: int) -> float:
    fields = _read_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def _process_pages(pid: int) -> int:
    fields = _read_text(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) if fields else 0


def _read_text(path: Path) -> str:
    """A file of ``/proc``, or nothing when its process has ended."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _own_cpu_s() -> float:
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _core_busy_s(core: int) -> float:
    """Seconds that a core was not idle: user, nice, system, interrupts, and time stolen by the hypervisor."""
    for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
    raise ValueError(f"/proc/stat has no core {core}")


def _uptime_s() -> float:
    return float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
