"""Prompts that clients send as token ids: exact in every mode, whatever is known of the tokenizer."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np

from router.core.types import Prompt, Tokens
from router.engine.api import ApiKind, ApiRequest, Body
from router.engine.prompts.chat_input import PromptUnknownError

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_ONE = msgspec.json.Decoder(list[TokenId])
_BATCH = msgspec.json.Decoder(list[list[TokenId]])


def ids_prompt(api: ApiRequest) -> Prompt | None:
    """The prompt of a completion request whose ``prompt`` is an array of token ids, else None.

    Of a batch the first one counts: the whole batch goes to one replica, and its members mostly share a
    prefix if any. Raises PromptUnknownError when the ids are to be truncated.
    """
    if api.kind is not ApiKind.COMPLETION:
        return None
    start = bytes(memoryview(api.body.prompt)[:64]).replace(b" ", b"")
    if start[:1] != b"[" or b'"' in start:
        return None
    try:
        ids = _BATCH.decode(api.body.prompt)[0] if start[1:2] == b"[" else _ONE.decode(api.body.prompt)
    except (ValueError, RecursionError, IndexError):
        return None
    check_truncation(api.body, len(ids))
    return Prompt(as_tokens(ids)) if ids else None


def check_truncation(body: Body, tokens: int) -> None:
    """Raises PromptUnknownError when a prompt of so many tokens is truncated before it is served."""
    limit = body.truncate_prompt_tokens
    if limit is not None and not (isinstance(limit, int) and limit >= tokens):
        raise PromptUnknownError("truncation")


def as_tokens(ids: Sequence[int]) -> Tokens:
    """Token ids as the array that hashing takes; ids must lie in 0..2^32-1."""
    return np.frombuffer(array("I", ids), dtype=np.uint32)
