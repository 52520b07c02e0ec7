"""The ``replica`` mode: asks a replica's own ``/tokenize``, for models whose files are not at hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import xxhash

from router.core.types import Prompt, Tokens
from router.engine.api import ApiKind, ApiRequest
from router.engine.prompts.chat_input import PromptUnknownError
from router.engine.prompts.completion import read_completion
from router.engine.prompts.media import modality
from router.engine.prompts.memo import Memo
from router.engine.prompts.reading import read_conversation
from router.engine.prompts.token_ids import TokenId, as_tokens, check_truncation, ids_prompt

MAX_QUESTION_BYTES = 8 << 20
MAX_ANSWER_BYTES = 32 << 20


class _Answer(msgspec.Struct):
    tokens: list[TokenId]


_ANSWER = msgspec.json.Decoder(_Answer)


class ReplicaPrompts:
    """Prompts as replicas tokenise them. Answers are remembered, and equal questions asked once.

    A replica that does not answer in time is not asked for a while; requests are then routed by load.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url_of: Callable[[str | None], str | None],
        *,
        timeout_s: float = 0.5,
        pause_s: float = 5.0,
        memo_bytes: int = 64 << 20,
    ) -> None:
        """``url_of`` names the base URL of a replica that serves a model, None when there is none."""
        self._session = session
        self._url_of = url_of
        self._timeout = aiohttp.ClientTimeout(timeout_s)
        self._pause_s = pause_s
        self._paused_until_s: dict[str, float] = {}
        self._asked: dict[bytes, asyncio.Task[Tokens]] = {}
        self.memo: Memo[bytes, Tokens] = Memo(memo_bytes)
        self.skipped: Counter[str] = Counter()
        """Requests that got no prompt, by reason."""

    def make(self, api: ApiRequest) -> Prompt | Awaitable[Prompt | None] | None:
        try:
            given = ids_prompt(api)
            if given is not None:
                return given
            question = _question(api)
            if len(question) > MAX_QUESTION_BYTES:
                raise PromptUnknownError("too long")
            key = xxhash.xxh3_128_digest(question)
            tokens = self.memo.get(key)
            return self._ask(api, key, question) if tokens is None else _prompt(api, tokens)
        except PromptUnknownError as error:
            self.skipped[error.reason] += 1
            return None

    async def _ask(self, api: ApiRequest, key: bytes, question: bytes) -> Prompt | None:
        try:
            task = self._asked.get(key)
            if task is None:
                task = self._asked[key] = asyncio.create_task(self._fetch(api.model, question))
                task.add_done_callback(lambda done: self._finish(key, done))
            return _prompt(api, await asyncio.shield(task))
        except PromptUnknownError as error:
            self.skipped[error.reason] += 1
            return None

    def _finish(self, key: bytes, task: asyncio.Task[Tokens]) -> None:
        del self._asked[key]
        if not task.cancelled() and task.exception() is None:
            tokens = task.result()
            self.memo.put(key, tokens, tokens.nbytes)

    async def _fetch(self, model: str | None, question: bytes) -> Tokens:
        """The replica's token ids. Raises PromptUnknownError when they cannot be had."""
        clock = asyncio.get_running_loop().time
        url = self._url_of(model)
        if url is None or clock() < self._paused_until_s.get(url, 0.0):
            raise PromptUnknownError("no replica to ask")
        self._paused_until_s.pop(url, None)
        try:
            answer = await self._post(f"{url}/tokenize", question)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._paused_until_s[url] = clock() + self._pause_s
            raise PromptUnknownError("replica silent") from error
        try:
            return as_tokens(_ANSWER.decode(answer).tokens)
        except (ValueError, RecursionError) as error:
            raise PromptUnknownError("replica answer") from error

    async def _post(self, url: str, question: bytes) -> bytes:
        headers = {"content-type": "application/json"}
        async with self._session.post(url, data=question, headers=headers, timeout=self._timeout) as response:
            if response.status != 200:
                raise PromptUnknownError("replica refused")
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise PromptUnknownError("replica answer")
            return bytes(answer)


def _question(api: ApiRequest) -> bytes:
    """The body for ``/tokenize`` that makes it answer with the request's prompt.

    Media are not asked about: the replica would fetch and process them for it.
    """
    if api.kind is ApiKind.COMPLETION:
        prompt = read_completion(api.body)
        return msgspec.json.encode(
            {"model": api.model, "prompt": prompt.text, "add_special_tokens": prompt.add_special_tokens}
        )
    chat = read_conversation(api, None)
    if any(modality(part) for message in chat.messages for part in _parts(message)):
        raise PromptUnknownError("media")
    variables = dict(chat.variables)
    return msgspec.json.encode(
        {
            "model": api.model,
            "messages": chat.messages,
            "add_generation_prompt": variables.pop("add_generation_prompt"),
            "continue_final_message": chat.continue_final_message,
            "add_special_tokens": chat.add_special_tokens,
            "tools": chat.tools,
            "chat_template_kwargs": variables,
        }
    )


def _parts(message: dict[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _prompt(api: ApiRequest, tokens: Tokens) -> Prompt | None:
    check_truncation(api.body, len(tokens))
    return Prompt(tokens) if len(tokens) else None
