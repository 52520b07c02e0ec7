"""How the kernel is to schedule the threads of a Weft that shares a core with its Envoy.

Left alone, the kernel lets whoever is waited for run as soon as there are some bytes: gRPC's reading threads interrupt
the event loop for each message, Envoy and the loop interrupt each other for each answer, and nobody ever does two
things at once. So Weft's threads interrupt nobody (SCHED_BATCH), and those that read come last: they read when the
event loop has nothing to do, and then all there is. Where others keep the core busy they still get a share of it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NICENESS = 15
"""Of the threads that read. At 10 nothing of it is left; at 19 a busy neighbour on the same core costs more."""
_TASKS = Path("/proc/self/task")
_READERS = ("event_engine", "lifeguard")
"""As gRPC calls those that read, and the one that starts more of them, which get its priority."""


def step_back() -> None:
    """To be called once gRPC has started its threads; those to come inherit it. Linux alone."""
    if not _TASKS.is_dir():
        return
    for task in _TASKS.iterdir():
        # It may have ended.
        with suppress(OSError):
            if (task / "comm").read_text().strip() in _READERS:
                os.setpriority(os.PRIO_PROCESS, int(task.name), NICENESS)
            os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))
