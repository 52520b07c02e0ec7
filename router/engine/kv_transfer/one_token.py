"""A request's body, rewritten so that an engine computes its prompt and one token of the answer.

What decides the prompt's tokens stays as it is; what only says how to answer goes, where it would cost time or
contradict an answer of one token. ``response_format`` stays: renderers of some models write it into the prompt.
"""

from __future__ import annotations

from router.engine.kv_transfer.fields import FALSE, ONE, TRUE, Fields

_LIMITS = {
    "/v1/completions": ("max_tokens",),
    "/v1/chat/completions": ("max_completion_tokens", "max_tokens"),
    "/v1/responses": ("max_output_tokens",),
    "/v1/messages": ("max_tokens",),
}
"""Which fields bound the answer; the last one is set where there is none."""

PATHS = frozenset(_LIMITS)

_SAMPLED = frozenset({"/v1/completions", "/v1/chat/completions"})
"""Where an engine takes ``ignore_eos``."""

_LEFT_OUT = (
    "stream_options",
    "n",
    "best_of",
    "echo",
    "logprobs",
    "top_logprobs",
    "logprob_token_ids",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "min_tokens",
    "min_completion_tokens",
    "stop",
    "stop_token_ids",
    "stop_sequences",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "store",
)


def ask_for_one_token(path: str, fields: Fields) -> None:
    """Changes ``fields``. ``path`` is one of ``PATHS``.

    The one token must end the answer for its length: an answer that ended by itself may leave nothing to hand over.
    """
    for name in _LEFT_OUT:
        fields.pop(name, None)
    limits = _LIMITS[path]
    for name in [name for name in limits if name in fields] or [limits[-1]]:
        fields[name] = ONE
    fields["stream"] = FALSE
    if path in _SAMPLED:
        fields["ignore_eos"] = TRUE
    elif path == "/v1/responses":
        fields["store"] = FALSE
