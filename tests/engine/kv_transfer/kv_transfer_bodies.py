"""Bodies of requests, and what becomes of their fields."""

from __future__ import annotations

import json

import msgspec
from hypothesis import strategies as st

from router.core.types import ReplicaSpec
from router.engine.kv_transfer.connector import Legs

PREFILL = ReplicaSpec("p", "http://10.0.0.1:8000")
DECODE = ReplicaSpec("d", "http://10.0.0.2:8000")

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
PATHS = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)


def legs(path: str = CHAT, prefill: ReplicaSpec = PREFILL, transfer_id: str = "t-1") -> Legs:
    return Legs(path, "r-1", transfer_id, prefill, DECODE)


def fields(body: bytes) -> dict[str, bytes]:
    """Each top-level field's JSON text."""
    return {name: bytes(raw) for name, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
_SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])

WHAT_STAYS = [
    "model",
    "messages",
    "prompt",
    "input",
    "system",
    "tools",
    "tool_choice",
    "temperature",
    "top_p",
    "seed",
    "user",
    "metadata",
    "reasoning_effort",
    "chat_template_kwargs",
    "response_format",
    "add_generation_prompt",
    "continue_final_message",
    "cache_salt",
    "vllm_xargs",
    "priority",
]
"""Fields that decide the prompt or are nobody's business here."""


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON objects with known and unknown fields, written in different ways."""
    names = st.sampled_from(WHAT_STAYS) | st.text(max_size=12)
    values = draw(st.dictionaries(names, _VALUES, max_size=8))
    for name in ("prompt", "tools", "thinking"):
        values.pop(name, None)
    values["messages"] = draw(st.lists(st.fixed_dictionaries({"role": _SCALARS, "content": _VALUES}), max_size=3))
    separators = draw(_SPACES)
    return json.dumps(values, ensure_ascii=draw(st.booleans()), separators=separators).encode("utf-8", "replace")
