"""Reads the body of an OpenAI- or Anthropic-style request: one pass over the bytes, only what decides routing.

What decides the token ids (messages, tools, ...) stays raw JSON until a prompt is made of it. A body that a
replica would accept is never refused here: where only the replica can judge, the field is left out and the
request has no prompt to hash.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, NoReturn

import msgspec

from router.engine.kv_transfer.own import names_blocks
from router.errors import ApiError

MAX_USER_CHARS = 256
_MAX_MAX_TOKENS = 2**31 - 1
_MAX_LENIENT_BYTES = 1 << 20
_ABSENT = msgspec.Raw()
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


class ApiKind(StrEnum):
    """Which endpoint a request is for, as far as its prompt differs."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    OTHER = "other"


_KINDS = {
    "/v1/chat/completions": ApiKind.CHAT,
    "/v1/completions": ApiKind.COMPLETION,
    "/v1/responses": ApiKind.RESPONSES,
    "/v1/messages": ApiKind.MESSAGES,
    "/v1/embeddings": ApiKind.EMBEDDINGS,
}


class Body(msgspec.Struct, gc=False):
    """The fields of a body that matter here. ``Raw`` ones are JSON text, empty when absent."""

    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    cache_salt: Any = None
    session_id: Any = None
    prompt_cache_key: Any = None
    conversation: Any = None
    program_id: Any = None
    parent_program_id: Any = None
    job_id: Any = None
    is_last_step: Any = None
    metadata: msgspec.Raw = _ABSENT
    vllm_xargs: msgspec.Raw = _ABSENT
    nvext: msgspec.Raw = _ABSENT
    user: Any = None
    priority: Any = msgspec.UNSET
    """vLLM's own; set whenever the body has it."""

    kv_transfer_params: msgspec.Raw = _ABSENT
    """vLLM's own: where KV blocks are that another replica computed."""
    sampling_params: msgspec.Raw = _ABSENT
    """vLLM's own, of requests in tokens."""

    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    instructions: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    documents: msgspec.Raw = _ABSENT
    chat_template: msgspec.Raw = _ABSENT
    chat_template_kwargs: msgspec.Raw = _ABSENT
    reasoning: msgspec.Raw = _ABSENT
    thinking: msgspec.Raw = _ABSENT
    output_config: msgspec.Raw = _ABSENT
    prompt_embeds: msgspec.Raw = _ABSENT
    suffix: msgspec.Raw = _ABSENT
    previous_response_id: msgspec.Raw = _ABSENT
    previous_input_messages: msgspec.Raw = _ABSENT
    reasoning_effort: Any = None
    add_generation_prompt: Any = None
    continue_final_message: Any = None
    add_special_tokens: Any = None
    truncate_prompt_tokens: Any = None


_LIGHT_FIELDS = tuple(
    name
    for name, default in zip(Body.__struct_fields__, Body.__struct_defaults__, strict=True)
    if default is None or default is msgspec.UNSET
)
_DECODER = msgspec.json.Decoder(Body)
_MAY_NAME_BLOCKS = ("kv_transfer_params", "vllm_xargs", "sampling_params")
_TRUTH = msgspec.Raw(b"true")


class ApiRequest(msgspec.Struct, gc=False, frozen=True):
    """A request as its body tells it."""

    kind: ApiKind
    model: str | None
    """None: the client named no model; vLLM then answers with the one it serves."""
    stream: bool
    max_tokens: int | None
    cache_salt: str
    user: str
    """The end user; one value may stand for very many sessions."""
    body: Body


def read_body(path: str, body: bytes) -> ApiRequest:
    """What a POST to ``path`` asks for.

    Raises ApiError 400 when no replica could accept the body: empty, not JSON, not an object, or a field of
    the wrong type.
    """
    try:
        fields = _DECODER.decode(body)
    except (ValueError, RecursionError) as error:
        fields = _read_leniently(body, error)
    kind = _KINDS.get(path)
    if kind is None:
        kind = _KINDS.get(path.partition("?")[0].rstrip("/"), ApiKind.OTHER)
    _check_shape(kind, fields)
    return ApiRequest(
        kind,
        _string(fields.model, "model"),
        _boolean(fields.stream, "stream", False),
        _max_tokens(fields),
        _string(fields.cache_salt, "cache_salt") or "",
        _bounded(fields.user),
        fields,
    )


def says_transfer(body: Body) -> bool:
    """Whether it tells the engine where KV blocks are, or might: what cannot be read is not trusted."""
    raws = [getattr(body, name) for name in _MAY_NAME_BLOCKS]
    try:
        return any(raws) and names_blocks(*(json.loads(bytes(raw)) if raw else None for raw in raws))
    except (ValueError, RecursionError):
        return True


def present(raw: msgspec.Raw) -> bool:
    """Whether a raw field was given a value other than null."""
    return bool(raw) and bytes(raw) != b"null"


def boolean(value: Any, default: bool) -> bool | None:
    """``value`` as vLLM reads a boolean field, None when it would refuse it."""
    if value is None or isinstance(value, bool):
        return default if value is None else value
    word = str(int(value) if isinstance(value, float) and value in (0.0, 1.0) else value).lower()
    return True if word in _TRUE else False if word in _FALSE else None


def _read_leniently(body: bytes, error: Exception) -> Body:
    """Reads what Python's own JSON reader accepts and a strict one does not: NaN, lone surrogates, UTF-16.

    vLLM reads bodies with it. Such a request is passed on with nothing to hash.
    """
    if not body.strip():
        _refuse("The request body is empty; send a JSON object.")
    if isinstance(error, RecursionError):
        _refuse("The request body is nested too deeply.")
    if isinstance(error, msgspec.ValidationError) and " - at `$" not in str(error):
        _refuse(f"The request body must be a JSON object: {error}.")
    if len(body) > _MAX_LENIENT_BYTES:
        _refuse(f"The request body is not valid JSON: {error}.")
    try:
        parsed = json.loads(body)
    except RecursionError:
        _refuse("The request body is nested too deeply.")
    except ValueError as reason:
        _refuse(f"The request body is not valid JSON: {reason}.")
    if not isinstance(parsed, dict):
        _refuse("The request body must be a JSON object.")
    own = names_blocks(*(parsed.get(name) for name in _MAY_NAME_BLOCKS))
    light = {name: parsed[name] for name in _LIGHT_FIELDS if name in parsed}
    return Body(**light, kv_transfer_params=_TRUTH if own else _ABSENT)


def _check_shape(kind: ApiKind, fields: Body) -> None:
    if kind is ApiKind.CHAT or kind is ApiKind.MESSAGES:
        raw = bytes(memoryview(fields.messages)[:1])
        if raw and raw != b"[":
            _refuse("messages must be an array of messages.", param="messages")
    elif kind is ApiKind.COMPLETION:
        raw = bytes(memoryview(fields.prompt)[:1])
        if raw in (b"{", b"t", b"f") or raw.isdigit():
            _refuse("prompt must be a string, an array of strings or an array of token ids.", param="prompt")


def _max_tokens(fields: Body) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = getattr(fields, name)
        if value is None:
            continue
        if type(value) is not int:
            value = _integer(value, name)
        return value if 0 < value <= _MAX_MAX_TOKENS else None
    return None


def _integer(value: Any, param: str) -> int:
    try:
        if not isinstance(value, (str, int, float)) or int(value) != float(value):
            raise ValueError
        return int(value)
    except (ValueError, OverflowError):
        _refuse(f"{param} must be an integer.", param=param)


def _string(value: Any, param: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not (value.isascii() or _is_unicode(value)):
        _refuse(f"{param} must be a string.", param=param)
    return value


def _is_unicode(text: str) -> bool:
    """Whether it has no lone surrogates, which JSON can write and nothing else can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _boolean(value: Any, param: str, default: bool) -> bool:
    if value is None:
        return default
    read = boolean(value, default)
    if read is None:
        _refuse(f"{param} must be true or false.", param=param)
    return read


def _bounded(value: Any) -> str:
    """A string that can serve as an identifier, else ""."""
    if not isinstance(value, str) or len(value) > MAX_USER_CHARS:
        return ""
    return value if value.isascii() or _is_unicode(value) else ""


def _refuse(message: str, *, param: str | None = None) -> NoReturn:
    raise ApiError(400, message, param=param)
