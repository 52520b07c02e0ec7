"""One answer under way: planned from the start, visible as far as the engine has come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.engine import Request
from sim.replica.kv_messages import Origin
from sim.replica.kv_transfer.params import Source


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
    source: Source | None = None
    """Where its keys and values can be fetched, until that has begun."""
    reported_cached_tokens: int | None = None
    """What the replica that computed the prompt had in its cache; None where this one looks itself."""
    kv_transfer_params: dict[str, Any] | None = None
    """What a whole answer tells of the blocks that are kept of it."""
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cached_tokens(self) -> int:
        """As usage says it: prompt tokens that were not computed for this client."""
        return self.found_tokens if self.reported_cached_tokens is None else self.reported_cached_tokens

    @property
    def found_tokens(self) -> int:
        """Prompt tokens that this replica did not compute: in its cache, or fetched."""
        return self.request.cached_tokens + self.request.fetched_tokens

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
