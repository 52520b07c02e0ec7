"""A client that knows what it asked for: each answer with its decision, its usage and its times."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

EXPLAIN = {"x-weft-explain": "1"}


@dataclass(slots=True)
class Answer:
    """What came back for one request."""

    status: int
    replica: str
    """The name of the replica that answered, "" when none did."""
    predicted_tokens: int
    """Cached tokens that the router expected at that replica."""
    known_prompt_tokens: int
    """Tokens of the prompt that the router made of the request."""
    prompt_tokens: int = -1
    cached_tokens: int = -1
    """As vLLM reports them; -1: it did not."""
    text: str = ""
    error: str = ""
    finish_reason: str = ""
    prompt_token_ids: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    """Of the answer, where the body asks for them."""
    completion_tokens: int = -1
    ttft_s: float = 0.0
    """To the first byte of the body."""

    @property
    def is_whole(self) -> bool:
        return self.status == 200 and not self.error and self.finish_reason not in ("", "abort")

    @property
    def is_predicted(self) -> bool:
        """The router knew the prompt's length and how much of it was cached."""
        return (self.predicted_tokens, self.known_prompt_tokens) == (self.cached_tokens, self.prompt_tokens)


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
    path: str = "/v1/chat/completions",
) -> Answer:
    """Sends a chat or completion request, streamed or not as its body says."""
    began_s = time.monotonic()
    async with session.post(url + path, json=body, headers=EXPLAIN | dict(headers or {})) as response:
        answer = _routed(response)
        data = bytearray(await response.content.readany())
        answer.ttft_s = time.monotonic() - began_s
        data += await response.read()
        if response.content_type == "text/event-stream":
            _read_stream(data.decode(), answer)
        else:
            _read(json.loads(data), answer)
        return answer


def _routed(response: aiohttp.ClientResponse) -> Answer:
    answer = Answer(response.status, response.headers.get("x-weft-replica", ""), -1, -1)
    explained = response.headers.get("x-weft-explain")
    if explained:
        decision = json.loads(explained)
        winner = next(each for each in decision["candidates"] if each["replica"] == decision["winner"])
        answer.predicted_tokens = winner["cached_tokens"]
        answer.known_prompt_tokens = decision["prompt_tokens"]
    return answer


def _read_stream(text: str, answer: Answer) -> None:
    for line in text.splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            _read(json.loads(line.removeprefix("data: ")), answer)


def _read(event: dict[str, Any], answer: Answer) -> None:
    """An answer of any API, or one chunk of a streamed one."""
    if event.get("error"):
        answer.error = str(event["error"])
        return
    for choice in event.get("choices", ()):
        written = choice.get("delta") or choice.get("message") or choice
        answer.text += written.get("content") or written.get("text") or ""
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
        answer.token_ids += choice.get("token_ids") or ()
        answer.prompt_token_ids = choice.get("prompt_token_ids") or answer.prompt_token_ids
    answer.prompt_token_ids = event.get("prompt_token_ids") or answer.prompt_token_ids
    answer.finish_reason = event.get("stop_reason") or event.get("status") or answer.finish_reason
    if event.get("usage"):
        _read_usage(event["usage"], answer)


def _read_usage(usage: dict[str, Any], answer: Answer) -> None:
    if "cache_read_input_tokens" in usage:
        answer.cached_tokens = usage["cache_read_input_tokens"]
        answer.prompt_tokens = usage["input_tokens"] + usage["cache_creation_input_tokens"] + answer.cached_tokens
        return
    answer.prompt_tokens = usage.get("prompt_tokens", usage.get("input_tokens"))
    answer.completion_tokens = usage.get("completion_tokens", usage.get("output_tokens", -1))
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    answer.cached_tokens = details.get("cached_tokens", -1)
