"""Tokenises long texts beside the event loop, and what several requests wait for only once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from router.core.types import Tokens
from router.engine.prompts.chat_input import PromptUnknownError
from router.engine.prompts.segments import Piece, Segmenter

MAX_WAITING_CHARS = 8 << 20
"""One to two seconds of work. What comes on top is routed by load rather than late."""


class Aside:
    """A thread that tokenises. A burst of siblings with one long prompt makes it work once."""

    def __init__(self, segments: Segmenter) -> None:
        self._segments = segments
        self._thread = ThreadPoolExecutor(1, "weft-tokenise")
        self._under_way: dict[Piece, asyncio.Future[dict[Piece, Tokens]]] = {}
        self._waiting_chars = 0

    async def tokenise(self, pieces: Sequence[Piece]) -> dict[Piece, Tokens]:
        """The ids of ``pieces``. Cancelling the caller does not stop what others may wait for.

        Raises PromptUnknownError when too much is waiting already, or when the tokenizer cannot.
        """
        self._start([piece for piece in pieces if piece not in self._under_way])
        jobs = {self._under_way[piece] for piece in pieces}
        await asyncio.wait(jobs)
        found: dict[Piece, Tokens] = {}
        for job in jobs:
            found.update(job.result())
        return found

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self, pieces: Sequence[Piece]) -> None:
        if not pieces:
            return
        if self._waiting_chars > MAX_WAITING_CHARS:
            raise PromptUnknownError("tokenizer busy")
        self._waiting_chars += sum(map(len, pieces))
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._thread, self._segments.tokenise, pieces)
        self._under_way.update(dict.fromkeys(pieces, job))
        job.add_done_callback(lambda done: self._finish(pieces, done))

    def _finish(self, pieces: Sequence[Piece], job: asyncio.Future[dict[Piece, Tokens]]) -> None:
        for piece in pieces:
            del self._under_way[piece]
            self._waiting_chars -= len(piece)
        if not job.cancelled() and job.exception() is None:
            self._segments.remember(job.result())
