"""What a replica asks of whatever moves keys and values: vLLM's KV connector, cut to what a simulation needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sim.replica.generation import Generation
from sim.replica.kv_transfer.params import KvTransferParams

FetchEnded = Callable[[bool], None]
"""Called with whether the keys and values have come."""


class Connector(Protocol):
    """Of one start of a replica."""

    port: int
    """Where other replicas come, known after ``start``; 0 where none does."""

    async def start(self) -> None:
        """Raises OSError when a port is taken."""

    async def stop(self) -> None: ...

    def begin(self, generation: Generation, params: KvTransferParams | None) -> None:
        """Before it enters the engine: where its keys and values come from, and whether its blocks are kept."""

    def fetch(self, generation: Generation, ended: FetchEnded) -> None:
        """It has blocks for ``fetched_tokens`` that are to come. ``ended`` is called once, and never from here."""

    def finished(self, generation: Generation) -> None:
        """It has all its tokens."""

    def refused(self, params: KvTransferParams) -> None:
        """A request did not get as far as ``begin``."""

    def left(self, generation: Generation) -> None:
        """Nobody works on its answer any more, however it ended."""


class NoConnector:
    """A replica by itself: what a request says of transfers is ignored."""

    port = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def begin(self, generation: Generation, params: KvTransferParams | None) -> None: ...

    def fetch(self, generation: Generation, ended: FetchEnded) -> None:
        raise AssertionError("no request has tokens elsewhere")

    def finished(self, generation: Generation) -> None: ...

    def refused(self, params: KvTransferParams) -> None: ...

    def left(self, generation: Generation) -> None: ...
