"""Decides before it begins what a generation will be: its tokens, its length, why it ends."""

from __future__ import annotations

import asyncio
from itertools import count

import numpy as np
from xxhash import xxh3_64_intdigest

from router.core.types import Tokens
from sim.engine import Request
from sim.replica.block_hashes import chain_seed, hash_blocks
from sim.replica.body import GenerateBody
from sim.replica.errors import VllmError, bad_field
from sim.replica.generation import Generation
from sim.replica.kv_messages import Origin
from sim.replica.language import Language
from sim.replica.settings import Settings

UNASKED_TOKENS = (16, 400)
"""Length of an answer when the request says nothing about it."""


class Planner:
    """Plans the generations of one start of a replica."""

    def __init__(self, settings: Settings, language: Language, start: int) -> None:
        self._settings = settings
        self._language = language
        self._start = f"{settings.seed}/{settings.index}/{start}"
        self._numbers = count()

    def plan(
        self,
        body: GenerateBody,
        prompt: Tokens,
        *,
        name: str,
        limit: int | None,
        priority: int,
        session_id: str | None,
        changed: asyncio.Event,
    ) -> Generation:
        """A generation for one prompt. Raises VllmError 400 when the prompt is too long.

        ``name``: what its id in the engine begins with.
        """
        engine = self._settings.engine
        room = engine.max_model_len_tokens - len(prompt)
        if room < 1:
            raise _too_long(body, len(prompt), engine.max_model_len_tokens)
        seed = xxh3_64_intdigest(prompt.tobytes(), seed=self._settings.seed)
        natural = self._natural_tokens(body, seed, limit)
        most = room if limit is None else min(limit, room)
        length = most if natural is None else min(most, max(natural, body.min_tokens))
        stops = natural is not None and natural <= most
        output = self._language.answer(length, seed)
        tokens = np.concatenate([prompt, output])
        salt = body.cache_salt or ""
        hashes = hash_blocks(tokens, engine.block_size_tokens, chain_seed(self._start, salt))
        return Generation(
            Request(f"{name}-{next(self._numbers):08x}", len(prompt), length, hashes, priority),
            Origin(tokens, salt, session_id),
            output,
            self._language.pieces(output),
            "stop" if stops else "length",
            changed,
        )

    def _natural_tokens(self, body: GenerateBody, seed: int, limit: int | None) -> int | None:
        """After how many tokens the model would end by itself; None when only a limit ends it."""
        asked = body.extra("sim_output_tokens")
        if asked is not None and (type(asked) is not int or asked < 1):
            text = "sim_output_tokens must be an integer of at least 1"
            raise bad_field("value_error", "body.vllm_xargs", text, str(asked))
        if body.ignore_eos:
            return None
        if asked is not None:
            return int(asked)
        if limit is not None:
            return None
        shortest, longest = UNASKED_TOKENS
        return shortest + seed % (longest - shortest + 1)


def _too_long(body: GenerateBody, tokens: int, limit: int) -> VllmError:
    """Of a text vLLM tokenises no more than it takes to know that it is too long."""
    contains = str(tokens)
    if body.messages or b'"' in bytes(body.prompt):
        tokens = limit + 1
        contains = f"at least {tokens}"
    return VllmError(
        400,
        f"This model's maximum context length is {limit} tokens. However, your prompt contains {contains} input "
        "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
        f"prompt. (parameter=input_tokens, value={tokens})",
        param="input_tokens",
    )
