"""Prompts for models without a tokenizer: groups of four bytes of the request's text stand in for tokens.

The text is the JSON of tools and messages as it came, without the bracket that closes the messages, so that a
longer conversation extends a shorter one. Such a prompt can only be compared with what Weft itself sent.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec
import numpy as np

from router.core.types import Prompt
from router.engine.api import ApiKind, ApiRequest, Body
from router.engine.prompts.chat_input import PromptUnknownError
from router.engine.prompts.token_ids import ids_prompt

BYTES_PER_TOKEN = 4
MAX_TEXT_BYTES = 4 << 20
"""What follows is not looked at: it is far beyond what any model's context holds."""

_NUMBERING = re.compile(rb'\{[^{}]*"x-anthropic-billing-header[^{}]*\}')
"""The block in which Claude Code numbers its requests; vLLM drops it."""


class TextPrompts:
    """The ``text`` mode."""

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter()
        """Requests that got no prompt, by reason."""

    def make(self, api: ApiRequest) -> Prompt | None:
        try:
            given = ids_prompt(api)
        except PromptUnknownError as error:
            self.skipped[error.reason] += 1
            return None
        if given is not None:
            return given
        text = _text(api.kind, api.body)
        tokens = min(len(text), MAX_TEXT_BYTES) // BYTES_PER_TOKEN
        if not tokens:
            self.skipped["no text"] += 1
            return None
        return Prompt(np.frombuffer(text, dtype=np.uint32, count=tokens), exact=False)


def _text(kind: ApiKind, body: Body) -> bytearray:
    """What the prompt is made of, in the order in which templates use it."""
    if kind is ApiKind.CHAT:
        return bytearray(body.tools) + _open(body.messages)
    if kind is ApiKind.COMPLETION:
        return bytearray(_open(body.prompt))
    if kind is ApiKind.MESSAGES:
        return bytearray(body.tools) + _NUMBERING.sub(b"", bytes(body.system)) + _open(body.messages)
    if kind is ApiKind.RESPONSES:
        return bytearray(body.tools) + bytes(body.instructions) + _open(body.input)
    return bytearray()


def _open(raw: msgspec.Raw) -> bytes:
    """JSON text of an array or a string without what closes it."""
    text = bytes(raw)
    return text[:-1].rstrip() if text[-1:] in (b"]", b'"') else b""
