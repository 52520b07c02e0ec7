"""Whatever a client sends, a prompt is made or it is not; nothing is raised."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.engine.api import read_body
from router.engine.prompts.local import LocalPrompts
from router.engine.prompts.maker import PromptSource
from router.engine.prompts.replica import ReplicaPrompts
from router.engine.prompts.text import TextPrompts
from router.errors import ApiError

FIXTURES = Path(__file__).parent / "fixtures"
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
JUNK = [None, True, 0, -1, 1.5, "", "x", [], {}, [1], {"a": 1}, [[]], [{}], [None], {"type": []}, {"role": []}]
JUNK += [10**30, 1e308, {"type": "text"}, {"type": "image_url"}, {"type": "image", "source": 1}, "\ud800", {"text": {}}]
PARTS = [
    {"type": "image_url", "image_url": {"url": "http://a"}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "image", "source": {"type": "url", "url": "http://a"}},
    {"type": "input_image", "image_url": "http://a"},
    {"type": "tool_reference", "name": "f"},
    {"type": "text", "text": "plain"},
]
CASES = json.loads((FIXTURES / "vllm_prompts.json").read_text())


def spoiled(value: Any, random: Random) -> Any:
    """``value`` with some of its parts replaced by others, removed or added."""
    if random.random() < 0.1:
        return random.choice(JUNK)
    if isinstance(value, dict):
        spoilt = {name: spoiled(member, random) for name, member in value.items()}
        if spoilt and random.random() < 0.1:
            del spoilt[random.choice(list(spoilt))]
        return spoilt
    if isinstance(value, list):
        return [*(spoiled(member, random) for member in value), *random.sample(PARTS, random.random() < 0.2)]
    return value


@pytest.fixture(scope="module")
def sources() -> list[PromptSource]:
    templates = [(FIXTURES / "templates" / f"{name}.jinja").read_text() for name in ("agent", "dump_openai")]
    local = [LocalPrompts(FIXTURES / "tiny", chat_template=template) for template in templates]
    return [*local, TextPrompts()]


@given(st.sampled_from(CASES), st.integers(0, 2**32))
@settings(max_examples=600, deadline=None)
def test_spoiled_requests(sources: list[PromptSource], case: dict[str, Any], seed: int) -> None:
    body = spoiled(case["body"], Random(seed))
    try:
        api = read_body(PATHS[case["kind"]], json.dumps(body).encode())
    except ApiError:
        return
    for source in sources:
        source.make(api)


@given(st.sampled_from(CASES), st.binary(min_size=1, max_size=3), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_damaged_bytes(sources: list[PromptSource], case: dict[str, Any], damage: bytes, where: float) -> None:
    raw = json.dumps(case["body"]).encode()
    at = int(where * len(raw))
    try:
        api = read_body(PATHS[case["kind"]], raw[:at] + damage + raw[at + len(damage) :])
    except ApiError:
        return
    for source in sources:
        source.make(api)


@given(st.sampled_from(CASES), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_spoiled_questions_to_a_replica(case: dict[str, Any], seed: int) -> None:
    prompts = ReplicaPrompts(None, lambda model: None)  # type: ignore[arg-type]
    try:
        made = prompts.make(read_body(PATHS[case["kind"]], json.dumps(spoiled(case["body"], Random(seed))).encode()))
    except ApiError:
        return
    if isinstance(made, Coroutine):
        made.close()
