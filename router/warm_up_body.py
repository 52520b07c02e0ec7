"""The body of a call, rewritten to compute its prompt and one token."""

from __future__ import annotations

import msgspec

_ONE, _FALSE = msgspec.Raw(b"1"), msgspec.Raw(b"false")

_LIMITS = {
    "/v1/chat/completions": ("max_completion_tokens", "max_tokens"),
    "/v1/completions": ("max_tokens",),
}
"""Which fields bound the answer; the last one is set where there is none."""

_LEFT_OUT = (
    "stream_options",
    "n",
    "best_of",
    "echo",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "min_tokens",
    "use_beam_search",
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "priority",
    "request_id",
    "store",
    "kv_transfer_params",
)
"""What only says how to answer, or contradicts an answer of one token. What decides the prompt's tokens stays."""

_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])


def can_be_repeated(path: str) -> bool:
    return path in _LIMITS


def with_one_token(path: str, body: bytes) -> bytes:
    """``body`` with an answer of one token, unstreamed; values that stay are copied byte for byte. Raises ValueError
    when it cannot be read."""
    try:
        fields = _DECODER.decode(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    for name in _LEFT_OUT:
        fields.pop(name, None)
    limits = _LIMITS[path]
    for name in [name for name in limits if name in fields] or [limits[-1]]:
        fields[name] = _ONE
    if "stream" in fields:
        fields["stream"] = _FALSE
    return msgspec.json.encode(fields)
