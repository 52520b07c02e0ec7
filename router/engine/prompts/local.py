"""The ``local`` mode: the model's own template and tokenizer, run here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from router.core.types import Prompt, Tokens
from router.engine.api import ApiKind, ApiRequest
from router.engine.prompts.aside import Aside
from router.engine.prompts.chat_input import PromptUnknownError
from router.engine.prompts.completion import read_completion
from router.engine.prompts.prompt_text import PromptText
from router.engine.prompts.reading import read_conversation
from router.engine.prompts.rendering import Renderer
from router.engine.prompts.segments import Piece, Segmenter
from router.engine.prompts.token_ids import as_tokens, check_truncation, ids_prompt
from router.engine.prompts.tokenizer import load_tokenizer

INLINE_CHARS = 16 << 10
MEMO_BYTES = 128 << 20
MAX_CHARS = 4 << 20
"""Longer prompts, a million tokens and more, are left to the replica."""
_NO_IDS = np.empty(0, np.uint32)


class LocalPrompts:
    """Prompts of one model, with the token ids that vLLM computes.

    Text that is not remembered is tokenised at once up to ``inline_chars``, beside the event loop beyond.
    """

    def __init__(
        self,
        directory: Path,
        *,
        chat_template: str | None = None,
        template_defaults: Mapping[str, Any] | None = None,
        inline_chars: int = INLINE_CHARS,
        memo_bytes: int = MEMO_BYTES,
    ) -> None:
        """``chat_template`` (its text) and ``template_defaults`` mirror vLLM's ``--chat-template`` and
        ``--default-chat-template-kwargs``. Raises TokenizerError or ChatTemplateError."""
        model = load_tokenizer(directory)
        templates = model.templates if chat_template is None else {"default": chat_template}
        self._renderer = Renderer(templates, model.special_tokens, template_defaults or {})
        self._prefix = as_tokens(model.prefix)
        self._suffix = as_tokens(model.suffix)
        self._inline_chars = inline_chars
        self.segments = Segmenter(model.tokenizer, memo_bytes)
        self._aside = Aside(self.segments)
        self.tokenizer = model.tokenizer
        self.skipped: Counter[str] = Counter()
        """Requests that got no prompt, by reason."""

    def make(self, api: ApiRequest) -> Prompt | Awaitable[Prompt | None] | None:
        """The prompt; to be awaited when long text is new. None when only the replica can tell."""
        try:
            given = ids_prompt(api)
            if given is not None:
                return given
            prompt = self.text_of(api)
            if len(prompt.text) > MAX_CHARS:
                raise PromptUnknownError("too long")
            pieces = self.segments.split(prompt.text)
            found = self.segments.known(pieces)
            missing = [piece for piece in dict.fromkeys(pieces) if piece not in found]
            if sum(map(len, missing)) > self._inline_chars:
                return self._make_aside(api, prompt, pieces, found, missing)
            if missing:
                new = self.segments.tokenise(missing)
                self.segments.remember(new)
                found.update(new)
            return self._assemble(api, prompt, pieces, found)
        except PromptUnknownError as error:
            self.skipped[error.reason] += 1
            return None

    def close(self) -> None:
        self._aside.close()

    def text_of(self, api: ApiRequest) -> PromptText:
        """The prompt before it is tokenised. Raises PromptUnknownError when only the replica can tell."""
        if api.kind is ApiKind.COMPLETION:
            return read_completion(api.body)
        return self._renderer.render(read_conversation(api, self._renderer.habits))

    async def _make_aside(
        self,
        api: ApiRequest,
        prompt: PromptText,
        pieces: Sequence[Piece],
        found: dict[Piece, Tokens],
        missing: Sequence[Piece],
    ) -> Prompt | None:
        try:
            found.update(await self._aside.tokenise(missing))
            return self._assemble(api, prompt, pieces, found)
        except PromptUnknownError as error:
            self.skipped[error.reason] += 1
            return None

    def _assemble(
        self, api: ApiRequest, prompt: PromptText, pieces: Sequence[Piece], found: Mapping[Piece, Tokens]
    ) -> Prompt | None:
        ids = [found[piece] for piece in pieces]
        before = self._prefix if prompt.add_special_tokens else _NO_IDS
        after = self._suffix if prompt.add_special_tokens else _NO_IDS
        tokens = np.concatenate([before, *ids, after])
        check_truncation(api.body, len(tokens))
        if not len(tokens):
            return None
        media = tuple(
            (len(before) + self.segments.tokens_before(position, pieces, found), key) for position, key in prompt.media
        )
        return Prompt(tokens, media=media)
