"""Which requests must stay in one piece, because engines would hand over too little, twice, or something else.

An engine hands the KV blocks of one prompt to one consumer, once. So several answers, several prompts, searches and
agent loops inside the engine are out; so are prompts whose tokens depend on how long the answer may be, those whose
logprobs are wanted, which the decode replica computes itself, and those that refer to what one replica remembers. Read
from vLLM 0.32: ``v1/engine/parallel_sampling.py``, ``entrypoints/openai``, ``renderers/params.py``.
"""

from __future__ import annotations

import msgspec

from router.engine.kv_transfer.fields import Fields, text_of
from router.engine.kv_transfer.legs import HandOverError

_ONLY_ONE = ("n", "best_of")
_MUST_BE_OFF = ("use_beam_search", "background")
_MUST_BE_ABSENT = (
    "prompt_logprobs",
    "prompt_embeds",
    "truncate_prompt_tokens",
    "previous_response_id",
    "kv_transfer_params",
)


class _Tool(msgspec.Struct):
    type: str = "function"


_TOOLS = msgspec.json.Decoder(list[_Tool])
_PROMPTS = msgspec.json.Decoder(list[msgspec.Raw])


def check_divisible(path: str, fields: Fields) -> None:
    """Raises HandOverError, with the reason, when a request must stay in one piece."""
    for name in _ONLY_ONE:
        if text_of(fields, name) not in (b"", b"1"):
            raise HandOverError(f"{name} is not 1")
    for name in _MUST_BE_OFF:
        if text_of(fields, name) not in (b"", b"false"):
            raise HandOverError(f"{name} is set")
    for name in _MUST_BE_ABSENT:
        if text_of(fields, name):
            raise HandOverError(f"{name} is set")
    if text_of(fields, "truncation") not in (b"", b'"disabled"'):
        raise HandOverError("truncation is set")
    if text_of(fields, "echo") not in (b"", b"false") and text_of(fields, "logprobs") not in (b"", b"false"):
        raise HandOverError("the prompt's logprobs are asked for")
    if path == "/v1/completions":
        _check_prompt(text_of(fields, "prompt"))
    elif path == "/v1/responses":
        _check_tools(text_of(fields, "tools"))


def _check_prompt(prompt: bytes) -> None:
    """One string or one list of token ids, each of which may stand in a list of its own."""
    if prompt[:1] != b"[" or prompt[1:].lstrip()[:1] not in (b'"', b"["):
        return
    if len(_PROMPTS.decode(prompt)) != 1:
        raise HandOverError("there are several prompts")


def _check_tools(tools: bytes) -> None:
    """Tools that the engine calls itself lead to further prompts within one request."""
    try:
        own = bool(tools) and any(tool.type != "function" for tool in _TOOLS.decode(tools))
    except msgspec.DecodeError:
        own = True
    if own:
        raise HandOverError("the engine may call tools itself")
