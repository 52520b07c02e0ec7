"""Requests sent one at a time: what the router expects to be cached is what vLLM then finds in its cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import pytest
from real_client import Answer, ask
from real_traces import Turn, conversation
from replicas import BLOCK_SIZE_TOKENS, model_directory
from weft_process import Weft

GROUP = 6
"""Conversations that take turns; more than the caches hold, so that prefixes are evicted between turns."""
EVENTS_ALONE = {"router": {"predicted_ttl_s": 0}}
"""What was sent just now does not count as held: only KV events do."""


@dataclass(slots=True)
class Tally:
    """Sums over the answers of one run."""

    requests: int = 0
    exact: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    evicted: int = 0
    """Requests whose replica had held more of their prompt before."""

    def add(self, answer: Answer, held_before_tokens: int) -> None:
        self.requests += 1
        self.exact += answer.is_predicted
        self.prompt_tokens += answer.prompt_tokens
        self.cached_tokens += answer.cached_tokens
        self.evicted += answer.cached_tokens < held_before_tokens

    def __str__(self) -> str:
        return (
            f"{self.exact} of {self.requests} exact; {self.prompt_tokens} prompt tokens, "
            f"{self.cached_tokens / self.prompt_tokens:.1%} cached; {self.evicted} requests found a prefix evicted"
        )


def in_turns(sessions: list[list[Turn]]) -> Iterator[tuple[int, list[Turn]]]:
    """Number of a conversation and its turns up to the next call: groups of conversations that take turns."""
    for first in range(0, len(sessions), GROUP):
        group = list(enumerate(sessions))[first : first + GROUP]
        for turn in range(max(len(turns) for _, turns in group)):
            yield from ((number, turns[: turn + 1]) for number, turns in group if turn < len(turns))


def chat(model: str, messages: list[dict[str, str]], max_tokens: int = 8) -> dict[str, object]:
    return {
        "model": model,
        "messages": messages,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def replay(http: aiohttp.ClientSession, router: Weft, sessions: list[list[Turn]], profile: str) -> Tally:
    """One call after the other. Prints every mismatch."""
    tally = Tally()
    held: dict[tuple[int, str], int] = {}
    for number, turns in in_turns(sessions):
        answer = await ask(http, router.url, chat("tiny", conversation(turns)), {"x-weft-profile": profile})
        assert answer.is_whole, answer
        tally.add(answer, held.get((number, answer.replica), 0))
        if not answer.is_predicted:
            print(f"conversation {number}, turn {len(turns)}: {answer}")
        held[number, answer.replica] = answer.prompt_tokens // BLOCK_SIZE_TOKENS * BLOCK_SIZE_TOKENS
    return tally


@pytest.mark.parametrize(
    ("mode", "profile", "config", "conversations"),
    [
        pytest.param("local", "default", {}, 20, id="local"),
        pytest.param("local", "round-robin", EVENTS_ALONE, 12, id="local-by-events-alone-round-robin"),
        pytest.param("replica", "round-robin", EVENTS_ALONE, 6, id="replica-by-events-alone-round-robin"),
    ],
)
async def test_predicted_cached_tokens_are_those_that_vllm_reports(
    empty_replicas, sessions, weft, http, figure, mode, profile, config, conversations
) -> None:
    source = str(model_directory("tiny")) if mode == "local" else "replica"
    with weft(empty_replicas, "--tokenizer", source, config=config) as router:
        tally = await replay(http, router, sessions[:conversations], profile)
        assert router.metric("weft_prompts_skipped_total") == 0
        assert router.metric("weft_engine_troubles_total") == 0
    figure(str(tally))
    assert tally.exact >= 0.99 * tally.requests
    assert tally.evicted > 0
    assert tally.cached_tokens > 0.2 * tally.prompt_tokens


async def test_conversations_whose_answers_the_model_wrote_itself(empty_replicas, sessions, weft, http, figure) -> None:
    """The next prompt holds the answer's text; blocks that decoding filled are found again where the ids agree."""
    tally = Tally()
    with weft(empty_replicas, "--tokenizer", str(model_directory("tiny")), config=EVENTS_ALONE) as router:
        for turns in sessions[:4]:
            messages = conversation(turns[:1])
            for turn in turns[1:8]:
                answer = await ask(http, router.url, chat("tiny", messages, max_tokens=64))
                assert answer.is_whole, answer
                tally.add(answer, 0)
                messages += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": turn.user}]
    figure(str(tally))
    assert tally.exact >= 0.99 * tally.requests


TOOL = {
    "type": "function",
    "function": {
        "name": "run",
        "description": 'Runs a shell command, e.g. `grep -rn "naïve" .`',
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    },
}
ANTHROPIC_TOOL = {
    "name": "run",
    "description": "Runs a shell command.",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}},
}


def api_bodies(text: str) -> dict[str, tuple[str, dict[str, object]]]:
    """Path and body of one request per API and way to ask; all begin differently."""
    said = [
        {"role": "user", "content": f"chat {text}"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_0", "type": "function", "function": {"name": "run", "arguments": '{"command": "ls -a"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "README.md <|im_end|>"},
    ]
    return {
        "chat": ("/v1/chat/completions", {"messages": said, "tools": [TOOL]}),
        "chat, thinking off": (
            "/v1/chat/completions",
            {"messages": said, "chat_template_kwargs": {"enable_thinking": False}},
        ),
        "completion": ("/v1/completions", {"prompt": f"completion {text}"}),
        "completion of ids": ("/v1/completions", {"prompt": [(7 * n) % 4000 for n in range(3, 700)]}),
        "salted": ("/v1/chat/completions", {"messages": said, "cache_salt": "tenant-a"}),
        "messages": (
            "/v1/messages",
            {
                "system": [{"type": "text", "text": "Be brief."}],
                "messages": [{"role": "user", "content": [{"type": "text", "text": f"messages {text}"}]}],
                "tools": [ANTHROPIC_TOOL],
            },
        ),
        "responses": ("/v1/responses", {"instructions": "Be brief.", "input": f"responses {text}"}),
    }


@pytest.mark.parametrize("mode", ["local", "replica"])
@pytest.mark.parametrize("name", api_bodies(""))
async def test_a_prompt_sent_again_by_any_api_is_found_by_its_events(empty_replicas, weft, http, name, mode) -> None:
    path, body = api_bodies("wörd " * 300)[name]
    limit = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    source = str(model_directory("tiny")) if mode == "local" else "replica"
    with weft(empty_replicas, "--tokenizer", source, config=EVENTS_ALONE) as router:
        first, second = [await ask(http, router.url, body | {"model": "tiny", limit: 8}, path=path) for _ in range(2)]
    assert first.is_whole, first
    assert first.is_predicted, first
    assert second.is_predicted, second
    assert second.cached_tokens > 300 > first.cached_tokens
