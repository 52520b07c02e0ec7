"""The JSON that vLLM 0.32 answers with, member for member: whole answers, chunks of a stream, usage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from sim.replica.generation import Generation

DONE = b"data: [DONE]\n\n"
FINGERPRINT = "vllm-0.32.0-simulated"
VERSION = "0.32.0"

Members = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Delta:
    """What one chunk adds to choice ``index``."""

    index: int
    text: str
    token_ids: list[int] | None
    finish_reason: str | None
    usage: Members | None = None
    """Running counts, when the client asked for them."""
    fingerprint: bool = False
    """The last chunk of an answer carries it."""


class Answer(Protocol):
    """One request's answer in the shape of its API."""

    def opening(self, prompt_tokens: int, *, continuous_usage: bool) -> bytes:
        """What a stream starts with, together with the first token."""

    def chunk(self, delta: Delta) -> bytes: ...

    def last_chunk(self, generations: Sequence[Generation], block_size_tokens: int) -> bytes:
        """The usage, when the client asked for it."""

    def whole(self, generations: Sequence[Generation], block_size_tokens: int) -> bytes: ...


@dataclass(slots=True, frozen=True)
class ChatAnswer:
    id: str
    created: int
    model: str
    return_token_ids: bool

    def opening(self, prompt_tokens: int, *, continuous_usage: bool) -> bytes:
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        members = self._chunk(choice)
        if continuous_usage:
            members["usage"] = running_usage(prompt_tokens, 0) | {"completion_tokens_details": None}
        return _event(members | {"prompt_token_ids": None, "prompt_text": None})

    def chunk(self, delta: Delta) -> bytes:
        choice: Members = {
            "index": delta.index,
            "delta": {"content": delta.text},
            "logprobs": None,
            "finish_reason": delta.finish_reason,
        }
        if delta.finish_reason is not None:
            choice["stop_reason"] = None
        members = self._chunk(choice | {"token_ids": delta.token_ids})
        if delta.fingerprint:
            members["system_fingerprint"] = FINGERPRINT
        if delta.usage is not None:
            members["usage"] = delta.usage | {"completion_tokens_details": None}
        return _event(members)

    def last_chunk(self, generations: Sequence[Generation], block_size_tokens: int) -> bytes:
        details = {
            "cached_tokens": generations[0].cached_tokens,
            "created_cache_tokens": created_cache_tokens(generations[0], block_size_tokens),
        }
        usage = total_usage(generations) | {"prompt_tokens_details": details}
        return _event(self._chunk() | {"usage": usage, "system_fingerprint": FINGERPRINT})

    def whole(self, generations: Sequence[Generation], block_size_tokens: int) -> bytes:
        (generation,) = generations
        message = {
            "role": "assistant",
            "content": text_of(generation),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": None,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": generation.finish_reason,
            "stop_reason": None,
            "token_ids": _token_ids(generation) if self.return_token_ids else None,
            "routed_experts": None,
        }
        created = created_cache_tokens(generation, block_size_tokens)
        members = _whole("chat.completion", self, [choice], generations, created)
        last = {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
        return msgspec.json.encode(members | last | _transfers(generation))

    def _chunk(self, *choices: Members) -> Members:
        return _members("chat.completion.chunk", self) | {"choices": choices}


@dataclass(slots=True, frozen=True)
class CompletionAnswer:
    id: str
    created: int
    model: str
    return_token_ids: bool

    def opening(self, prompt_tokens: int, *, continuous_usage: bool) -> bytes:
        return b""

    def chunk(self, delta: Delta) -> bytes:
        choice = {
            "index": delta.index,
            "text": delta.text,
            "logprobs": None,
            "finish_reason": delta.finish_reason,
            "stop_reason": None,
            "prompt_token_ids": None,
            "token_ids": delta.token_ids,
        }
        members = self._chunk(choice)
        if delta.fingerprint:
            members["system_fingerprint"] = FINGERPRINT
        if delta.usage is not None:
            members["usage"] = delta.usage
        return _event(members)

    def last_chunk(self, generations: Sequence[Generation], block_size_tokens: int) -> bytes:
        details = {"cached_tokens": generations[0].cached_tokens}
        usage = total_usage(generations) | {"prompt_tokens_details": details}
        return _event(self._chunk() | {"usage": usage, "system_fingerprint": FINGERPRINT})

    def whole(self, generations: Sequence[Generation], block_size_tokens: int) -> bytes:
        choices = [
            {
                "index": index,
                "text": text_of(generation),
                "logprobs": None,
                "finish_reason": generation.finish_reason,
                "stop_reason": None,
                "token_ids": _token_ids(generation) if self.return_token_ids else None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
            for index, generation in enumerate(generations)
        ]
        members = _whole("text_completion", self, choices, generations, None)
        return msgspec.json.encode(members | _transfers(generations[0]))

    def _chunk(self, *choices: Members) -> Members:
        return _members("text_completion", self) | {"choices": choices}


def text_of(generation: Generation) -> str:
    return "".join(generation.texts[: generation.emitted])


def running_usage(prompt_tokens: int, completion_tokens: int) -> Members:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }


def total_usage(generations: Sequence[Generation]) -> Members:
    return running_usage(
        sum(generation.request.prompt_tokens for generation in generations),
        sum(generation.emitted for generation in generations),
    )


def created_cache_tokens(generation: Generation, block_size_tokens: int) -> int:
    """Prompt tokens that this request added to the prefix cache."""
    prompt_tokens = generation.request.prompt_tokens
    return max(0, prompt_tokens - prompt_tokens % block_size_tokens - generation.found_tokens)


def error_event(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


def _transfers(generation: Generation) -> Members:
    return {"kv_transfer_params": generation.kv_transfer_params, "ec_transfer_params": None, "metrics": None}


def _token_ids(generation: Generation) -> list[int]:
    ids: list[int] = generation.output[: generation.emitted].tolist()
    return ids


def _members(kind: str, answer: ChatAnswer | CompletionAnswer) -> Members:
    return {"id": answer.id, "object": kind, "created": answer.created, "model": answer.model}


def _whole(
    kind: str,
    answer: ChatAnswer | CompletionAnswer,
    choices: Sequence[Members],
    generations: Sequence[Generation],
    created_tokens: int | None,
) -> Members:
    details = {
        "cached_tokens": generations[-1].cached_tokens,
        "created_cache_tokens": created_tokens,
        "multimodal_tokens": None,
    }
    usage = total_usage(generations) | {"prompt_tokens_details": details, "completion_tokens_details": None}
    last = {"service_tier": None, "system_fingerprint": FINGERPRINT, "usage": usage}
    return _members(kind, answer) | {"choices": choices} | last


def _event(members: Members) -> bytes:
    return b"data: " + msgspec.json.encode(members) + b"\n\n"
