"""Sends chat completions to a base URL over real HTTP, as an agent framework would, and measures each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from sim.demo.measure import Call

ANSWER_TIMEOUT_S = 120.0
"""Silence after which a call counts as failed, also while it waits in the router."""

Message = dict[str, str]


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(_Chunk)


class CallFailedError(Exception):
    """The server did not give a whole answer. The message is what it said or did instead."""


class Client:
    """Sends chat completions for one model through one base URL."""

    def __init__(self, http: aiohttp.ClientSession, url: str, model: str) -> None:
        self._http = http
        self._url = f"{url}/v1/chat/completions"
        self._model = model

    async def chat(
        self, messages: list[Message], tools: Sequence[dict[str, Any]], output_tokens: int, hints: Mapping[str, str]
    ) -> Call:
        """One streamed chat completion of exactly ``output_tokens``. ``hints``: more headers. What goes wrong is in
        ``Call.error``."""
        body = {
            "model": self._model,
            "messages": messages,
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if tools:
            body["tools"] = list(tools)
        try:
            return await self._stream(msgspec.json.encode(body), {"content-type": "application/json", **hints})
        except (CallFailedError, aiohttp.ClientError, TimeoutError, ValueError, msgspec.DecodeError) as error:
            return Call(error=str(error) or type(error).__name__)

    async def _stream(self, body: bytes, headers: dict[str, str]) -> Call:
        sent_s = time.perf_counter()
        ttft_s = None
        pieces: list[str] = []
        usage = None
        timeout = aiohttp.ClientTimeout(total=None, sock_read=ANSWER_TIMEOUT_S)
        async with self._http.post(self._url, data=body, headers=headers, timeout=timeout) as response:
            if response.status != 200:
                raise CallFailedError(f"HTTP {response.status}: {(await response.text())[:300]}")
            async for line in response.content:
                if not line.startswith(b"data:"):
                    continue
                if line.startswith(b"data: [DONE]"):
                    break
                chunk = _chunks.decode(line[5:])
                if chunk.error is not None:
                    raise CallFailedError(f"error in the stream: {str(chunk.error)[:300]}")
                for choice in chunk.choices:
                    if choice.finish_reason == "abort":
                        raise CallFailedError("the replica aborted the request")
                    if choice.delta.content:
                        ttft_s = ttft_s or time.perf_counter() - sent_s
                        pieces.append(choice.delta.content)
                usage = chunk.usage or usage
            else:
                raise CallFailedError("the stream ended before [DONE]")
        if ttft_s is None or usage is None:
            raise CallFailedError("the stream had no text or no usage")
        return Call(
            ttft_s=ttft_s,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0,
            answer="".join(pieces),
        )
