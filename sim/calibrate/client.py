"""Sends one probing request and notes when its tokens come."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
import msgspec

from sim.calibrate.errors import CalibrationError

TIMEOUT_S = 180.0
_TOKEN_IDS = range(100, 1000)
"""Of probes: every vocabulary has them, and what stands at its beginning and end is often special."""


@dataclass(slots=True)
class Answer:
    """One answer. Times are those of ``time.perf_counter``."""

    sent_s: float
    tokens_s: list[float] = field(default_factory=list)
    """When each output token had arrived."""
    cached_tokens: int | None = None
    """None: the server does not say (``--enable-prompt-tokens-details``)."""

    @property
    def ttft_s(self) -> float:
        return self.tokens_s[0] - self.sent_s


class Client:
    """Asks one model of one server. Raises CalibrationError for whatever is not a whole answer."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str, seed: int | None) -> None:
        self._session = session
        self._url = f"{url}/v1/completions"
        self._model = model
        self._random = Random(seed)

    def fresh_prompt(self, tokens: int) -> list[int]:
        """Token ids that no cache holds."""
        return self._random.choices(_TOKEN_IDS, k=tokens)

    async def complete(self, prompt: list[int], output_tokens: int) -> Answer:
        body = msgspec.json.encode(
            {
                "model": self._model,
                "prompt": prompt,
                "max_tokens": output_tokens,
                "min_tokens": output_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            }
        )
        try:
            try:
                began_s, chunks = await self._exchange(body)
            except aiohttp.ServerDisconnectedError:  # it closed a kept connection while this request was on its way
                began_s, chunks = await self._exchange(body)
        except TimeoutError as error:
            raise CalibrationError(f"a probe of {len(prompt)} tokens took longer than {TIMEOUT_S:g} s") from error
        except aiohttp.ClientError as error:
            raise CalibrationError(f"a probe of {len(prompt)} tokens failed: {error}") from error
        answer = Answer(began_s)
        _read(chunks, answer)
        if len(answer.tokens_s) != output_tokens:
            raise CalibrationError(
                f"a probe got {len(answer.tokens_s)} tokens instead of {output_tokens}: is the server shutting down?"
            )
        return answer

    async def _exchange(self, body: bytes) -> tuple[float, list[tuple[float, bytes]]]:
        """When it was sent, and the chunks of the answer with the times at which they came."""
        headers = {"Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        began_s = time.perf_counter()
        async with self._session.post(self._url, data=body, headers=headers, timeout=timeout) as response:
            if response.status != 200:
                raise _refused(response.status, await response.read(), self._url)
            return began_s, [(time.perf_counter(), chunk) async for chunk in response.content.iter_any()]

    async def complete_all(self, prompts: list[list[int]], output_tokens: int) -> list[Answer]:
        """All at once."""
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self.complete(prompt, output_tokens)) for prompt in prompts]
        except* CalibrationError as group:
            raise group.exceptions[0] from None
        return [task.result() for task in running]


def _refused(status: int, body: bytes, url: str) -> CalibrationError:
    text = body[:300].decode("utf-8", "replace")
    if status in (404, 405):
        return CalibrationError(
            f"POST {url} answered {status}: probes are prompts of token ids, for which the server must have this route"
        )
    if status in (401, 403):
        return CalibrationError(f"POST {url} answered {status}: give the server's key with --api-key")
    return CalibrationError(f"POST {url} answered {status}: {text}")


def _read(chunks: list[tuple[float, bytes]], answer: Answer) -> None:
    """Server-sent events, wherever they were cut. A token arrives with the chunk that ends its event."""
    rest = b""
    for at_s, chunk in chunks:
        *events, rest = (rest + chunk).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: {"):
                _read_event(_decoded(event), at_s, answer)


def _decoded(event: bytes) -> dict[str, Any]:
    try:
        decoded: dict[str, Any] = msgspec.json.decode(event.removeprefix(b"data: "))
    except msgspec.DecodeError as error:
        raise CalibrationError(f"an answer cannot be read: {event[:100]!r}") from error
    return decoded


def _read_event(event: dict[str, Any], at_s: float, answer: Answer) -> None:
    if event.get("error"):
        raise CalibrationError(f"the server broke off an answer: {event['error']}")
    usage = event.get("usage") or {}
    arrived = usage.get("completion_tokens", len(answer.tokens_s) + len(event.get("choices", ())))
    answer.tokens_s += [at_s] * (arrived - len(answer.tokens_s))
    details = usage.get("prompt_tokens_details") or {}
    answer.cached_tokens = details.get("cached_tokens", answer.cached_tokens)
