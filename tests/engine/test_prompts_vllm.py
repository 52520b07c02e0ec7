"""The ids that vLLM computed for recorded requests are the ids that are computed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from router.core.types import Prompt
from router.engine.api import read_body
from router.engine.prompts.local import LocalPrompts

FIXTURES = Path(__file__).parent / "fixtures"
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}


def recorded(name: str) -> list[dict[str, Any]]:
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def ids_of(prompts: LocalPrompts, path: str, body: dict[str, Any]) -> list[int] | None:
    made = prompts.make(read_body(path, json.dumps(body).encode()))
    assert made is None or isinstance(made, Prompt)
    return None if made is None else made.token_ids.tolist()


@pytest.fixture(scope="module")
def tiny() -> LocalPrompts:
    return LocalPrompts(FIXTURES / "tiny")


@pytest.fixture(scope="module")
def by_template() -> dict[str, LocalPrompts]:
    files = (FIXTURES / "templates").glob("*.jinja")
    return {file.stem: LocalPrompts(FIXTURES / "tiny", chat_template=file.read_text()) for file in files}


@pytest.mark.parametrize("case", recorded("vllm_tokenize.json"), ids=lambda case: case["name"])
def test_tokenize_answers(tiny: LocalPrompts, case: dict[str, Any]) -> None:
    if case["name"] == "unknown_model":
        pytest.skip("which models there are is the router's business")
    path = "/v1/completions" if "prompt" in case["body"] else "/v1/chat/completions"
    assert ids_of(tiny, path, case["body"]) == (case["ids"] or None)


@pytest.mark.parametrize("kind", PATHS)
def test_prompts_of_whole_requests(by_template: dict[str, LocalPrompts], kind: str) -> None:
    cases = [case for case in recorded("vllm_prompts.json") if case["kind"] == kind]
    assert len(cases) > 20
    for case in cases:
        assert ids_of(by_template[case["template"]], PATHS[kind], case["body"]) == case["ids"], case


def test_remembered_pieces_change_nothing(by_template: dict[str, LocalPrompts]) -> None:
    for case in reversed(recorded("vllm_prompts.json")):
        assert ids_of(by_template[case["template"]], PATHS[case["kind"]], case["body"]) == case["ids"]
