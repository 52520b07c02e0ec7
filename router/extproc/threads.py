"""gRPC's own threads, which are to stay behind the event loop.

gRPC reads its sockets on threads of its own. On a core that they share with the event loop, the kernel lets them run
as soon as there are some bytes: the loop is interrupted for each message, Envoy answers each alone, and nobody ever
does two things at once. At a lower priority they read when the loop has nothing to do, and then all there is: with
Envoy on the same core that was twice as many requests per second. Where others keep the core busy they still get a
share of it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NICENESS = 15
"""At 10 half of it is lost; at 19 a busy neighbour on the same core costs half of the requests."""
_TASKS = Path("/proc/self/task")
_NAMES = ("event_engine", "lifeguard")
"""As gRPC calls those that read, and the one that starts more of them, which get its priority."""


def step_back() -> None:
    """Lowers the priority of gRPC's reading threads, to be called once it has started them. Linux alone."""
    if not _TASKS.is_dir():
        return
    for task in _TASKS.iterdir():
        with suppress(OSError):
            if (task / "comm").read_text().strip() in _NAMES:
                os.setpriority(os.PRIO_PROCESS, int(task.name), NICENESS)
