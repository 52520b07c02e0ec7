"""The demo's client against a small real server: what it sends, what it measures, what it makes of failures."""

import re

import aiohttp
import pytest
from demo_world import USAGE, Server, delta, serving

from sim.demo.client import Client

TOOLS = ({"type": "function", "function": {"name": "shell"}},)


HINTS = {"x-program-id": "react-0"}


@pytest.fixture
async def server():
    return Server()


@pytest.fixture
async def client(server):
    async with serving(server) as url, aiohttp.ClientSession() as http:
        yield Client(http, url, "tiny")


async def test_a_call_is_a_streamed_completion_of_a_given_length(client, server):
    await client.chat([{"role": "user", "content": "Hi"}], TOOLS, 7, HINTS)
    [body] = server.bodies
    assert body["model"] == "tiny"
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert body["tools"] == list(TOOLS)
    assert (body["max_tokens"], body["ignore_eos"]) == (7, True)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


async def test_hints_are_headers(client, server):
    await client.chat([], (), 7, HINTS)
    assert server.headers[0][b"x-program-id"] == b"react-0"


async def test_no_tools_are_no_field(client, server):
    await client.chat([{"role": "user", "content": "Hi"}], (), 7, HINTS)
    assert "tools" not in server.bodies[0]


async def test_an_answer_is_measured(client):
    call = await client.chat([], (), 2, HINTS)
    assert call.error == ""
    assert call.answer == "Hello"
    assert (call.prompt_tokens, call.cached_tokens) == (40, 32)
    assert call.ttft_s > 0.0


async def test_a_refusal_is_an_error_that_says_what_the_server_said(client, server):
    server.status = 503
    call = await client.chat([], (), 2, HINTS)
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
    call = await client.chat([], (), 2, HINTS)
    assert call.error
    assert re.search(said, call.error)


async def test_nobody_listening_is_an_error():
    async with aiohttp.ClientSession() as http:
        call = await Client(http, "http://127.0.0.1:9", "tiny").chat([], (), 2, HINTS)
    assert "127.0.0.1" in call.error
