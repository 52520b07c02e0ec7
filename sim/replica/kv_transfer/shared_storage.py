"""ExampleConnector: what one replica has computed lies in a folder that all replicas read.

As in vLLM a prompt is found as a whole or not at all, without its last two tokens and what is left of a block then, and
requests need say nothing of it. The folder holds an empty file for each prompt.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from xxhash import xxh3_128_hexdigest

from sim.replica.generation import Generation
from sim.replica.kv_transfer.connector import FetchEnded
from sim.replica.kv_transfer.link import Link
from sim.replica.kv_transfer.params import KvTransferParams
from sim.replica.settings import KvTransfer


class SharedStorage:
    def __init__(self, settings: KvTransfer, folder: Path, block_size_tokens: int, speed: float) -> None:
        self.port = 0
        self._folder = folder
        self._block_size = block_size_tokens
        self._link = Link(settings.model, speed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, generation: Generation, params: KvTransferParams | None) -> None:
        tokens = self._stored_tokens(generation)
        if tokens and self._file(generation).exists():
            generation.request.remote_tokens = tokens

    def fetch(self, generation: Generation, ended: FetchEnded) -> None:
        task = asyncio.create_task(self._read(generation.request.fetched_tokens, ended))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def finished(self, generation: Generation) -> None:
        if self._stored_tokens(generation):
            self._file(generation).touch()

    def refused(self, params: KvTransferParams) -> None: ...

    def left(self, generation: Generation) -> None: ...

    async def _read(self, tokens: int, ended: FetchEnded) -> None:
        await asyncio.sleep(self._link.latency_s + self._link.reserve(tokens, asyncio.get_running_loop().time()))
        ended(True)

    def _stored_tokens(self, generation: Generation) -> int:
        return max(0, generation.request.prompt_tokens - 2) // self._block_size * self._block_size

    def _file(self, generation: Generation) -> Path:
        tokens = generation.origin.tokens[: self._stored_tokens(generation)].tobytes()
        return self._folder / xxh3_128_hexdigest(tokens + generation.origin.cache_salt.encode())
