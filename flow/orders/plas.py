"""Autellix' PLAS: a request's priority is the service of all completed requests of its program, in seconds.

For programs that are one thread of calls. Autellix (arXiv 2502.13965), section 4.2; the queues are `AutellixOrder`.
"""

from __future__ import annotations

from dataclasses import dataclass

from flow.orders.autellix import AutellixOrder
from router.core.types import Request


@dataclass(slots=True)
class _OfProgram:
    seconds: float = 0.0

    def before(self, request: Request) -> float:
        return self.seconds

    def add(self, request: Request, before_s: float, service_s: float) -> None:
        self.seconds += service_s


def plas(max_programs: int = 100_000, idle_s: float = 3600.0) -> AutellixOrder:
    """Program-level attained service."""
    return AutellixOrder("plas", _OfProgram, max_programs=max_programs, idle_s=idle_s)
