"""What a simulated replica knows of language: it tokenises prompts like vLLM, and answers with random words."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from router.core.types import Prompt, Tokens
from router.engine.api import read_body
from router.engine.prompts.local import LocalPrompts
from router.errors import ApiError
from sim.model import MODEL_DIRECTORY
from sim.replica.errors import VllmError, bad_field, bad_parameter

_WORD = re.compile("\u0120[a-z]{3,}")  # \u0120 stands for a leading space


class Language:
    """Tokenizer, chat template and vocabulary of the simulated model. One is enough for many replicas."""

    def __init__(self) -> None:
        self._prompts = LocalPrompts(MODEL_DIRECTORY)
        self.tokenizer = self._prompts.tokenizer
        self.vocabulary_size: int = self.tokenizer.get_vocab_size()

    async def chat_prompt(self, body: bytes, messages: msgspec.Raw) -> Tokens:
        """Token ids of a conversation, as /v1/chat/completions and /tokenize take it. Raises VllmError 400."""
        if not messages:
            raise bad_field("missing", "body.messages", "Field required", "<dict of 1 items>")
        if bytes(messages).replace(b" ", b"") == b"[]":
            text = "Cannot apply chat template to an empty conversation. Provide at least one message."
            raise VllmError(400, text)
        prompt = await self._make("/v1/chat/completions", body)
        if prompt is None:
            raise VllmError(400, "The chat template cannot render these messages.")
        return prompt.token_ids

    async def prompts(self, raw: msgspec.Raw) -> list[Tokens]:
        """Token ids of each prompt of a completion: a text, token ids, or a list of either. Raises VllmError 400."""
        value: Any = msgspec.json.decode(raw) if raw else None
        if isinstance(value, dict | bool | int | float):
            raise bad_field("string_type", "body.prompt", "Input should be a valid string", type(value).__name__)
        is_batch = isinstance(value, list) and not all(isinstance(one, int) for one in value)
        members: list[Any] = value if is_batch else [value]
        if not all(members):
            raise bad_parameter("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
        return [await self._prompt(one) for one in members]

    async def text_prompt(self, raw: msgspec.Raw) -> Tokens:
        """Token ids of the text in a /tokenize request, which may be empty. Raises VllmError 400."""
        value = msgspec.json.decode(raw) if raw else None
        if not isinstance(value, str):
            raise bad_field("string_type", "body.prompt", "Input should be a valid string", type(value).__name__)
        return await self._prompt(value) if value else np.empty(0, np.uint32)

    def answer(self, count: int, seed: int) -> NDArray[np.uint32]:
        """Words, each of one token. Tokenised again they give the same ids, however many are cut off."""
        chosen: NDArray[np.uint32] = np.random.default_rng(seed).choice(self._words, count)
        return chosen

    def pieces(self, tokens: NDArray[np.uint32]) -> list[str]:
        """The text of each of these words."""
        return [self._texts[token] for token in tokens.tolist()]

    def close(self) -> None:
        self._prompts.close()

    @cached_property
    def _texts(self) -> dict[int, str]:
        vocabulary = self.tokenizer.get_vocab()
        return {token: f" {text[1:]}" for text, token in vocabulary.items() if _WORD.fullmatch(text)}

    @cached_property
    def _words(self) -> NDArray[np.uint32]:
        whole = [token for token, text in self._texts.items() if self.tokenizer.encode(text).ids == [token]]
        return np.array(sorted(whole), np.uint32)

    async def _prompt(self, value: Any) -> Tokens:
        if isinstance(value, str):
            prompt = await self._make("/v1/completions", msgspec.json.encode({"prompt": value}))
            if prompt is None:
                raise VllmError(400, "The prompt cannot be tokenised.")
            return prompt.token_ids
        if not isinstance(value, list) or not all(type(token) is int for token in value):
            raise bad_field("list_type", "body.prompt", "Input should be a valid list", type(value).__name__)
        for token in value:
            if not 0 <= token < self.vocabulary_size:
                raise VllmError(400, f"Token id {token} is out of vocabulary")
        return np.array(value, np.uint32)

    async def _make(self, path: str, body: bytes) -> Prompt | None:
        try:
            made = self._prompts.make(read_body(path, body))
        except ApiError as error:
            raise VllmError(error.status, error.message, param=error.param) from error
        return made if made is None or isinstance(made, Prompt) else await made
