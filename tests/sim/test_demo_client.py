"""The demo's client against a small real server: what it sends, what it measures, what it makes of failures."""

import asyncio
import json
import re

import aiohttp
import pytest
from aiohttp import web

from sim.demo.client import Client
from sim.demo.workload import Program, Stage, Turn

TOOLS = ({"type": "function", "function": {"name": "shell"}},)


def sse(event):
    return b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n"


def delta(content, finish_reason=None):
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}]}


USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 40, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 32}},
}
WHOLE = [delta(""), delta("Hel"), delta("lo", "length"), USAGE, b"[DONE]"]


class Server:
    """Answers every chat completion with ``events``, or with ``status``, once ``awaited`` of them are there."""

    def __init__(self):
        self.events = WHOLE
        self.status = 200
        self.bodies = []
        self.awaited = 1
        self.enough = asyncio.Event()

    async def chat(self, request):
        self.bodies.append(await request.json())
        if len(self.bodies) >= self.awaited:
            self.enough.set()
        await self.enough.wait()
        if self.status != 200:
            return web.json_response({"error": {"message": "no healthy replica"}}, status=self.status)
        response = web.StreamResponse(headers={"x-weft-replica": "r1"})
        await response.prepare(request)
        for event in self.events:
            await response.write(sse(event))
        return response


@pytest.fixture
async def server():
    return Server()


@pytest.fixture
async def client(server):
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as http:
        yield Client(http, f"http://127.0.0.1:{port}", "tiny")
    await runner.cleanup()


def program(*stages, tools=()):
    return Program("react", 0.0, "Be brief.", tools, stages)


async def calls_of(client, *programs):
    calls = []
    async with asyncio.timeout(10):
        await client.run(programs, calls.append)
    return calls


async def test_a_call_is_a_streamed_completion_of_a_given_length(client, server):
    await client.chat([{"role": "user", "content": "Hi"}], TOOLS, 7)
    [body] = server.bodies
    assert body["model"] == "tiny"
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert body["tools"] == list(TOOLS)
    assert (body["max_tokens"], body["ignore_eos"]) == (7, True)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


async def test_no_tools_are_no_field(client, server):
    await client.chat([{"role": "user", "content": "Hi"}], (), 7)
    assert "tools" not in server.bodies[0]


async def test_an_answer_is_measured(client):
    call = await client.chat([], (), 2)
    assert call.error == ""
    assert call.answer == "Hello"
    assert call.replica == "r1"
    assert (call.prompt_tokens, call.cached_tokens) == (40, 32)
    assert 0.0 < call.ttft_s <= call.e2e_s


async def test_the_context_grows_by_each_answer(client, server):
    await calls_of(client, program(Stage((Turn("one", 2),)), Stage((Turn("two", 2),))))
    assert server.bodies[1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "two"},
    ]


async def test_branches_are_sent_at_once_and_the_best_goes_on(client, server):
    server.awaited = 2
    branches = Stage((Turn("left", 2), Turn("right", 2)), best=1)
    assert len(await calls_of(client, program(branches, Stage((Turn("evaluate", 2),))))) == 3
    contents = [[message["content"] for message in body["messages"]] for body in server.bodies]
    assert sorted(contents[:2]) == [["Be brief.", "left"], ["Be brief.", "right"]]
    assert contents[2] == ["Be brief.", "right", "Hello", "evaluate"]


async def test_programs_run_side_by_side(client, server):
    server.awaited = 3
    one = program(Stage((Turn("one", 2),)))
    assert len(await calls_of(client, one, one, one)) == 3


async def test_a_refusal_is_an_error_that_says_what_the_server_said(client, server):
    server.status = 503
    call = await client.chat([], (), 2)
    assert "503" in call.error
    assert "no healthy replica" in call.error


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([delta("Hel")], r"before \[DONE\]"),
        ([delta("Hel"), {"error": {"message": "engine died"}}, b"[DONE]"], "engine died"),
        ([delta("", "abort"), USAGE, b"[DONE]"], "abort"),
        ([delta("Hel"), b"[DONE]"], "no usage"),
        ([USAGE, b"[DONE]"], "no text"),
        ([b"{nonsense"], "."),
    ],
)
async def test_an_answer_that_is_not_whole_is_an_error(client, server, events, said):
    server.events = events
    call = await client.chat([], (), 2)
    assert call.error
    assert re.search(said, call.error)


async def test_nobody_listening_is_an_error():
    async with aiohttp.ClientSession() as http:
        call = await Client(http, "http://127.0.0.1:9", "tiny").chat([], (), 2)
    assert "127.0.0.1" in call.error


async def test_a_program_ends_with_its_first_failed_call(client, server):
    server.status = 500
    calls = await calls_of(client, program(Stage((Turn("one", 2),)), Stage((Turn("two", 2),))))
    assert len(calls) == len(server.bodies) == 1
