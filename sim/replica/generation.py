"""One answer under way: planned from the start, visible as far as the engine has come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim.engine import Request
from sim.replica.kv_messages import Origin


@dataclass(slots=True, eq=False)
class Generation:
    request: Request
    origin: Origin
    output: NDArray[np.uint32]
    """Token ids of the whole answer."""
    texts: list[str]
    """Text of each of them."""
    planned_reason: str
    """``stop`` or ``length``: why it ends when nothing comes between."""
    changed: asyncio.Event
    """Set with each token and at the end; shared by the generations of one HTTP request."""
    emitted: int = 0
    """Output tokens that exist by now."""
    finish_reason: str | None = None
    arrived_s: float = 0.0
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cached_tokens(self) -> int:
        return self.request.cached_tokens

    def emit(self) -> None:
        """One more token exists."""
        self.emitted += 1
        self.changed.set()

    def end(self, reason: str) -> None:
        self.finish_reason = reason
        self.changed.set()
        self._ended.set()

    async def ended(self) -> None:
        await self._ended.wait()
