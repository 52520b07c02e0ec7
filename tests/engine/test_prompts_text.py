"""The text mode: byte groups as tokens, longer conversations extend shorter ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.types import Prompt
from router.engine.api import read_body
from router.engine.prompts.maker import PromptMaker
from router.engine.prompts.text import BYTES_PER_TOKEN, MAX_TEXT_BYTES, TextPrompts

PATHS = {
    "messages": "/v1/chat/completions",
    "input": "/v1/responses",
    "prompt": "/v1/completions",
}
messages = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text()}), min_size=1, max_size=5)


def made(path: str, body: dict[str, Any]) -> Prompt:
    prompt = TextPrompts().make(read_body(path, json.dumps(body).encode()))
    assert prompt is not None
    return prompt


@given(messages, messages, st.sampled_from(["/v1/chat/completions", "/v1/messages", "/v1/responses"]))
def test_a_longer_conversation_extends_a_shorter_one(old: list[Any], new: list[Any], path: str) -> None:
    field = "input" if path == "/v1/responses" else "messages"
    tools = [{"type": "function", "function": {"name": "f"}}]
    short = made(path, {"tools": tools, field: old})
    long = made(path, {"tools": tools, field: old + new})
    assert np.array_equal(long.token_ids[: len(short)], short.token_ids)
    assert not short.exact


def test_a_longer_text_extends_a_shorter_one() -> None:
    short = made("/v1/completions", {"prompt": "once upon a time"})
    long = made("/v1/completions", {"prompt": "once upon a time there was"})
    assert np.array_equal(long.token_ids[: len(short)], short.token_ids)
    assert short.token_ids.tobytes() == b'"once upon a tim'


@pytest.mark.parametrize("field", ["tools", "system"])
def test_what_stands_before_the_messages_counts(field: str) -> None:
    body = {"messages": [{"role": "user", "content": "hello world"}]}
    assert made("/v1/messages", body | {field: "A" * 8}).token_ids.tobytes().startswith(b'"AAAAAAAA"')


def test_requests_that_claude_code_numbers_are_alike() -> None:
    def numbered(number: int) -> Prompt:
        system = [
            {"type": "text", "text": f"x-anthropic-billing-header: cch={number}"},
            {"type": "text", "text": "You are careful.", "cache_control": {"type": "ephemeral"}},
        ]
        return made("/v1/messages", {"system": system, "messages": [{"role": "user", "content": "hello"}]})

    assert np.array_equal(numbered(1).token_ids, numbered(22).token_ids)
    assert b"You are careful." in numbered(1).token_ids.tobytes()


def test_token_ids_of_the_client_are_exact() -> None:
    prompt = made("/v1/completions", {"prompt": [1, 2, 3]})
    assert prompt.exact
    assert prompt.token_ids.tolist() == [1, 2, 3]


def test_the_first_of_a_batch_counts() -> None:
    assert made("/v1/completions", {"prompt": [[7, 8], [9]]}).token_ids.tolist() == [7, 8]


def test_the_length_is_bounded() -> None:
    prompt = made("/v1/completions", {"prompt": "x" * (MAX_TEXT_BYTES + 100)})
    assert len(prompt) == MAX_TEXT_BYTES // BYTES_PER_TOKEN


@pytest.mark.parametrize("body", [{}, {"messages": []}])
def test_no_text_is_no_prompt(body: dict[str, Any]) -> None:
    assert TextPrompts().make(read_body("/v1/chat/completions", json.dumps(body).encode())) is None


def test_the_maker_chooses_by_model_and_leaves_other_endpoints_alone() -> None:
    class Named:
        def __init__(self, token: int) -> None:
            self.prompt = Prompt(np.array([token], np.uint32))

        def make(self, api: object) -> Prompt:
            return self.prompt

    maker = PromptMaker(Named(0))
    maker.by_model["m"] = Named(1)
    for path, model, token in [
        ("/v1/messages", "m", 1),
        ("/v1/messages", "other", 0),
        ("/v1/messages", None, 0),
        ("/v1/embeddings", "m", None),
        ("/v1/rerank", "m", None),
    ]:
        prompt = maker.make(read_body(path, json.dumps({"model": model}).encode()))
        assert (prompt and prompt.token_ids.tolist()) == (token if token is None else [token])
