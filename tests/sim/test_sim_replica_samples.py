"""Answers compared with those recorded from vLLM 0.32: ../shared/vllm/samples."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from replica_world import Client

SAMPLES = Path(__file__).parents[3] / "shared" / "vllm" / "samples"
MODEL = "tiny"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="recorded answers are not at hand")

VALUES = {"id", "created", "content", "text", "model", "system_fingerprint", "prompt_tokens", "total_tokens"} | {
    "created_cache_tokens"
}
"""Members whose values depend on the model or the moment."""


@dataclass
class Sample:
    path: str
    body: bytes
    status: int
    answer: str


def sample(name: str) -> Sample:
    text = (SAMPLES / f"{name}.txt").read_text()
    head, _, rest = text.partition("\n\n")
    path = re.search(r"### (?:POST|GET) (\S+)", head)
    body = re.search(r"### request body: (.*)", head)
    status, _, answer = rest.partition("\n\n")
    return Sample(
        path[1] if path else "/v1/completions",
        body[1].encode() if body else b"",
        int(status.split()[1]),
        answer.strip(),
    )


async def ask(client: Client, asked: Sample, content_type: str = "application/json") -> tuple[int, str]:
    headers = {"Content-Type": content_type}
    url = client.replica.url + asked.path
    async with client.session.post(url, data=asked.body, headers=headers) as response:
        return response.status, (await response.text()).strip()


def shape(value: Any) -> Any:
    """Members in their order, and the values that do not depend on the model."""
    if isinstance(value, dict):
        return [(key, type(item).__name__ if key in VALUES else shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [shape(item) for item in value]
    return value


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    return [line if line == "[DONE]" else shape(json.loads(line)) for line in lines]


@pytest.mark.parametrize(
    "name",
    ["chat_nonstream", "completions_nonstream", "completions_multi_prompt", "err_no_model", "err_unknown_field"],
)
async def test_whole_answers_have_the_same_members(client: Client, name: str) -> None:
    recorded = sample(name)
    status, answer = await ask(client, recorded)
    assert (status, shape(json.loads(answer))) == (200, shape(json.loads(recorded.answer)))


@pytest.mark.parametrize(
    "name", ["chat_stream", "chat_stream_usage", "chat_stream_continuous_usage", "completions_stream_usage"]
)
async def test_streams_have_the_same_chunks(client: Client, name: str) -> None:
    recorded = sample(name)
    status, answer = await ask(client, recorded)
    assert status == 200
    assert events(answer) == events(recorded.answer)


@pytest.mark.parametrize(
    "name",
    [
        "completions_max0",
        "err_bad_json",
        "err_empty_body",
        "err_empty_messages",
        "err_empty_prompt",
        "err_max_tokens_neg",
        "err_no_messages",
        "err_notfound",
        "err_stream_options_nostream",
        "err_temp_negative",
        "err_token_oov",
        "err_tokenize_wrong_model",
        "err_too_long",
        "err_too_long_chat",
        "err_too_long_stream",
        "err_wrong_model",
    ],
)
async def test_errors_are_the_same_to_the_letter(client: Client, name: str) -> None:
    recorded = sample(name)
    assert await ask(client, recorded) == (recorded.status, recorded.answer)


async def test_other_media_types_are_refused_in_the_same_words(client: Client) -> None:
    recorded = (SAMPLES / "err_text_plain.txt").read_text().strip().rpartition("\n")[2]
    asked = Sample("/v1/completions", b'{"prompt": "x"}', 400, recorded)
    assert await ask(client, asked, "text/plain") == (400, recorded)


async def test_the_limit_of_the_model_clips_max_tokens(client: Client) -> None:
    recorded = sample("err_too_long_with_max_tokens")
    _, answer = await ask(client, recorded)
    usage, expected = json.loads(answer)["usage"], json.loads(recorded.answer)["usage"]
    assert (usage["total_tokens"], usage["completion_tokens"]) == (
        expected["total_tokens"],
        expected["completion_tokens"],
    )
