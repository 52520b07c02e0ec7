"""The replica mode against a server that answers ``/tokenize`` as vLLM does, or fails to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from router.core.types import Prompt
from router.engine.api import ApiRequest, read_body
from router.engine.prompts.local import LocalPrompts
from router.engine.prompts.replica import ReplicaPrompts

FIXTURES = Path(__file__).parent / "fixtures"
AGENT = (FIXTURES / "templates" / "agent.jinja").read_text()
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}


class Replica:
    """A server with a tokenizer. ``answer`` replaces its answer; ``open`` holds answers back while not set."""

    def __init__(self) -> None:
        self.prompts = LocalPrompts(FIXTURES / "tiny", chat_template=AGENT)
        self.asked: list[dict[str, Any]] = []
        self.answer: web.Response | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()
        self.url: str | None = None

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.reached.set()
        await self.open.wait()
        if self.answer is not None:
            return self.answer
        path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
        made = self.prompts.make(read_body(path, json.dumps({k: v for k, v in body.items() if v is not None}).encode()))
        assert isinstance(made, Prompt), self.prompts.skipped
        return web.json_response({"count": len(made), "max_model_len": 1, "tokens": made.token_ids.tolist()})


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    replica = Replica()
    app = web.Application()
    app.router.add_post("/tokenize", replica.tokenize)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    replica.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield replica
    replica.open.set()
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def prompts(replica: Replica, session: aiohttp.ClientSession) -> ReplicaPrompts:
    return ReplicaPrompts(session, lambda model: replica.url, timeout_s=30)


def askable(case: dict[str, Any]) -> bool:
    """Leaves out what only vLLM's own ``/tokenize`` takes (no tools at all), or what depends on the template."""
    body = case["body"]
    tools = body.get("tools")
    functions = tools is None or any(tool.get("type", "function") != "web_search" for tool in tools)
    late_system = case["kind"] == "messages" and "'role': 'system'" in str(body["messages"])
    return case["template"] == "agent" and functions and not late_system and not body.get("thinking")


async def made(prompts: ReplicaPrompts, api: ApiRequest) -> Prompt | None:
    answer = prompts.make(api)
    return await answer if isinstance(answer, Awaitable) else answer


def completion(prompt: Any, **fields: Any) -> ApiRequest:
    return read_body("/v1/completions", json.dumps({"model": "m", "prompt": prompt, **fields}).encode())


async def test_a_conversation_becomes_a_question_with_the_same_answer(prompts: ReplicaPrompts) -> None:
    cases = [case for case in json.loads((FIXTURES / "vllm_prompts.json").read_text()) if askable(case)]
    assert {case["kind"] for case in cases} == set(PATHS)
    for case in cases:
        prompt = await made(prompts, read_body(PATHS[case["kind"]], json.dumps(case["body"]).encode()))
        assert prompt is not None, prompts.skipped
        assert prompt.token_ids.tolist() == case["ids"], case


async def test_a_completion(prompts: ReplicaPrompts, replica: Replica) -> None:
    prompt = await made(prompts, completion("hello", add_special_tokens=False))
    assert prompt is not None
    assert replica.prompts.tokenizer.decode(prompt.token_ids.tolist()) == "hello"
    assert replica.asked == [{"model": "m", "prompt": "hello", "add_special_tokens": False}]


async def test_answers_are_remembered(prompts: ReplicaPrompts, replica: Replica) -> None:
    first = await made(prompts, completion("hello"))
    again = prompts.make(completion("hello"))
    assert isinstance(again, Prompt)
    assert first is not None
    assert again.token_ids.tolist() == first.token_ids.tolist()
    assert len(replica.asked) == 1


async def test_equal_questions_are_asked_once(prompts: ReplicaPrompts, replica: Replica) -> None:
    replica.open.clear()
    waiting = [asyncio.ensure_future(made(prompts, completion("hello"))) for _ in range(5)]
    await replica.reached.wait()
    waiting[0].cancel()
    replica.open.set()
    assert all(prompt is not None for prompt in await asyncio.gather(*waiting[1:]))
    assert len(replica.asked) == 1


async def test_token_ids_need_no_question(prompts: ReplicaPrompts, replica: Replica) -> None:
    assert isinstance(prompts.make(completion([1, 2])), Prompt)
    assert replica.asked == []


async def test_media_are_not_sent_twice(prompts: ReplicaPrompts, replica: Replica) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "http://a"}}]
    body = {"messages": [{"role": "user", "content": parts}]}
    assert prompts.make(read_body("/v1/chat/completions", json.dumps(body).encode())) is None
    assert prompts.skipped == {"media": 1}
    assert replica.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (web.Response(status=400, text="{}"), "replica refused"),
        (web.Response(status=503), "replica refused"),
        (web.Response(text="<html>"), "replica answer"),
        (web.Response(text='{"tokens": "many"}'), "replica answer"),
        (web.Response(text='{"tokens": [-1]}'), "replica answer"),
    ],
    ids=["refused", "overloaded", "no JSON", "no ids", "bad id"],
)
async def test_a_useless_answer_is_counted(
    prompts: ReplicaPrompts, replica: Replica, answer: web.Response, reason: str
) -> None:
    replica.answer = answer
    assert await made(prompts, completion("hello")) is None
    assert prompts.skipped == {reason: 1}


async def test_a_silent_replica_is_left_alone_for_a_while(replica: Replica, session: aiohttp.ClientSession) -> None:
    prompts = ReplicaPrompts(session, lambda model: replica.url, timeout_s=0.01, pause_s=60)
    replica.open.clear()
    assert await made(prompts, completion("one")) is None
    assert await made(prompts, completion("two")) is None
    assert prompts.skipped == {"replica silent": 1, "no replica to ask": 1}
    assert len(replica.asked) <= 1


async def test_a_dead_replica_and_none_at_all(session: aiohttp.ClientSession) -> None:
    urls = ["http://127.0.0.1:1", None]
    prompts = ReplicaPrompts(session, lambda model: urls[0], timeout_s=30)
    assert await made(prompts, completion("one")) is None
    urls.pop(0)
    assert await made(prompts, completion("one")) is None
    assert prompts.skipped == {"replica silent": 1, "no replica to ask": 1}
