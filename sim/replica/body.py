"""Reads the bodies of generation requests, and refuses what vLLM refuses in its words."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from sim.replica.errors import VllmError, bad_field, bad_parameter
from sim.replica.kv_transfer.params import KvTransferParams

_ABSENT = msgspec.Raw()
T = TypeVar("T")


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerateBody(msgspec.Struct, kw_only=True):
    """Fields of /v1/chat/completions and /v1/completions that make a difference to a replica without a model."""

    model: str | None = None
    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    n: int | None = None
    temperature: float | None = None
    logprobs: int | bool | None = None
    echo: bool | None = None
    priority: int = 0
    cache_salt: str | None = None
    session_id: str | None = None
    return_token_ids: bool | None = None
    vllm_xargs: dict[str, Any] | None = None
    kv_transfer_params: KvTransferParams | None = None

    @property
    def limit_tokens(self) -> int | None:
        """How many tokens the client wants at most."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def extra(self, name: str) -> Any:
        """A member of ``vllm_xargs``, which vLLM passes on unread."""
        return (self.vllm_xargs or {}).get(name)


class TokenizeBody(msgspec.Struct, kw_only=True):
    model: str | None = None
    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    chat_template: str | None = None
    return_token_strs: bool | None = None


def read_json(body: bytes, content_type: str, kind: type[T]) -> T:
    """The body as ``kind``. Raises VllmError 400."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise VllmError(400, message, kind="Bad Request")
    if not body:
        raise bad_field("missing", "body", "Field required", "None")
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        raise bad_field("value_error", "body" + path.rstrip("`"), text.replace("`", ""), "...") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_json(body) from error


def check_parameters(read: GenerateBody) -> None:
    """Raises VllmError 400 where one of them is not in its range."""
    if read.stream_options is not None and not read.stream:
        raise bad_parameter("Stream options can only be defined when `stream=True`.", "stream_options")
    if read.temperature is not None and not read.temperature >= 0:
        raise bad_parameter(
            f"temperature must be non-negative, got {read.temperature}.", "temperature", read.temperature
        )
    limit = read.limit_tokens
    if limit is not None and limit < 1:
        raise bad_parameter(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    if not 0 <= read.min_tokens <= (limit if limit is not None else read.min_tokens):
        raise bad_parameter(
            f"min_tokens must be from 0 to max_tokens={limit}, got {read.min_tokens}.", "min_tokens", read.min_tokens
        )
    if read.n not in (None, 1):
        raise bad_parameter("A simulated replica makes one choice per prompt: n must be 1.", "n", read.n)
    if read.logprobs or read.echo:
        raise bad_parameter("A simulated replica has neither logprobs nor echo.", "logprobs")


def _bad_json(body: bytes) -> VllmError:
    """With the position and the reason that Python's reader gives, as vLLM has them."""
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        location, reason = f"body.{error.pos}", error.msg
    except (UnicodeDecodeError, RecursionError) as error:
        location, reason = "body", type(error).__name__
    else:
        location, reason = "body", "Not strict JSON"
    found = (
        f"{{'type': 'json_invalid', 'loc': '{location}', 'msg': 'JSON decode error', "
        f"'input': '<dict of 0 items>', 'ctx': {{'error': '{reason}'}}}}"
    )
    return VllmError(400, f"1 validation error:\n  {found}", kind="Bad Request", param=location)
