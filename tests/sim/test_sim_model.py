"""The tokenizer and template of the simulated model, and the answers made of its words."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from sim.model import MODEL_DIRECTORY
from sim.model.build import CHAT_TEMPLATE, VOCABULARY_SIZE, build
from sim.replica.language import Language


@pytest.fixture(scope="module")
def language() -> Iterator[Language]:
    made = Language()
    yield made
    made.close()


def test_the_files_are_those_that_the_script_makes() -> None:
    made = json.loads(build().to_str())
    assert json.loads((MODEL_DIRECTORY / "tokenizer.json").read_text()) == made
    assert json.loads((MODEL_DIRECTORY / "tokenizer_config.json").read_text())["chat_template"] == CHAT_TEMPLATE


def test_the_files_are_small(language: Language) -> None:
    assert sum(path.stat().st_size for path in MODEL_DIRECTORY.glob("*.json")) < 150_000
    assert language.vocabulary_size == VOCABULARY_SIZE


def test_answers_tokenise_to_their_own_ids_wherever_they_are_cut(language: Language) -> None:
    answer = language.answer(500, seed=7)
    texts = language.pieces(answer)
    for length in (1, 2, 17, 499, 500):
        assert language.tokenizer.encode("".join(texts[:length])).ids == answer[:length].tolist()


def test_answers_depend_on_the_seed_alone(language: Language) -> None:
    assert language.answer(50, 1).tolist() == language.answer(50, 1).tolist() != language.answer(50, 2).tolist()
    assert language.answer(80, 1)[:50].tolist() == language.answer(50, 1).tolist()


async def test_conversations_with_tools_are_rendered_in_chatml(language: Language) -> None:
    tool = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"query": "x"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Find x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
    ]
    body = msgspec.json.encode({"messages": messages, "tools": [tool]})
    tokens = await language.chat_prompt(body, msgspec.Raw(msgspec.json.encode(messages)))
    text = language.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
    system, rest = text.split("<|im_end|>\n", 1)
    assert system.startswith("<|im_start|>system\nBe brief.\n\n")
    assert '"name": "search"' in system
    assert rest == (
        "<|im_start|>user\nFind x<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>{"name": "search", "arguments": {"query": "x"}}</tool_call><|im_end|>\n'
        "<|im_start|>tool\nfound<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
