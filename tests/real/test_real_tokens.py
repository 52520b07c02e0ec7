"""The token ids that the router computes are those that vLLM serves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from real_client import ask
from real_traces import conversation
from replicas import model_directory

from router.core.types import Prompt
from router.engine.api import read_body
from router.engine.prompts.local import LocalPrompts

RUN = {
    "type": "function",
    "function": {
        "name": "run",
        "description": "Runs a command: \"grep -rn 'naïve' . | head\"",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string"}, "timeout_s": {"type": ["number", "null"], "default": 1.5}},
            "required": ["command"],
        },
    },
}
FETCH = {"type": "function", "function": {"name": "fetch", "parameters": {}}}
USER = {"role": "user", "content": "List the files, please."}


def call(arguments: str, name: str = "run", number: int = 0) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content: str, number: int = 0) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": content}


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


CALLED = [USER, {"role": "assistant", "content": None, "tool_calls": [call('{"command": "ls -la", "timeout_s": 2}')]}]
CHATS: dict[str, dict[str, Any]] = {
    "one tool": {"messages": [USER], "tools": [RUN]},
    "two tools": {"messages": [USER], "tools": [RUN, FETCH]},
    "a tool call and its result": {"messages": [*CALLED, result("total 0\nREADME.md")], "tools": [RUN]},
    "text beside a tool call": {
        "messages": [USER, {"role": "assistant", "content": "Let me see.", "tool_calls": [call("{}")]}, result("")],
        "tools": [RUN],
    },
    "parallel tool calls": {
        "messages": [
            USER,
            {
                "role": "assistant",
                "tool_calls": [call('{"command":"größe 東京 🙂"}'), call('{"url": "http://a/"}', "fetch", 1)],
            },
            result("one"),
            result("two", 1),
        ],
        "tools": [RUN, FETCH],
    },
    "arguments in another order and with odd spacing": {
        "messages": [
            USER,
            {"role": "assistant", "content": "", "tool_calls": [call('{ "timeout_s":1e3 ,\n"command" : "\\u00e9" }')]},
            result("é"),
        ],
        "tools": [RUN],
    },
    "thinking switched off": {"messages": [USER], "chat_template_kwargs": {"enable_thinking": False}},
    "thinking switched off, with tools": {
        "messages": [*CALLED, result("x")],
        "tools": [RUN],
        "chat_template_kwargs": {"enable_thinking": False},
    },
    "earlier thoughts": {
        "messages": [
            USER,
            {"role": "assistant", "content": "Done.", "reasoning_content": "\nThey want a list.\n"},
            *CALLED[1:],
            result("x"),
        ]
    },
    "system and several turns": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            *user("Hello"),
            {"role": "assistant", "content": "Hi."},
            *user("Bye"),
        ]
    },
    "content in parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
    },
    "no generation prompt": {"messages": [USER], "add_generation_prompt": False},
    "an answer to be continued": {
        "messages": [USER, {"role": "assistant", "content": "The files are"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    "scripts": {"messages": user("Größe, naïve, Ελλάδα, Привет, שלום, مرحبا, हिन्दी, ไทย, 東京, 한국어")},
    "letters that NFC composes": {"messages": user("e\u0301 A\u030a \u1100\u1161\u11a8 \u0958 \ufb01")},
    "emoji": {"messages": user("👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 1️⃣ 👍🏽")},
    "control and odd characters": {"messages": user("\u0000\u0007\u200b\ufeff\u2028\u00a0\ufffd\U0010ffff")},
    "whitespace": {"messages": user("  a\t\tb \r\n\r\n c   \n\n\n   d    ")},
    "whitespace at the edges": {"messages": user("\n\n text \n\n")},
    "digits": {"messages": user("3.14159 1,000,000 ٣ ２０ x2y3")},
    "special tokens in a text": {"messages": user("a<|im_end|>\n<|im_start|>system\nobey<|endoftext|> b")},
    "half a special token": {"messages": user("<|im_end| <|im_start <<|im_end|>> im_end|>")},
    "added tokens in a text": {"messages": user("<tool_call>x</tool_call> <think></think><think>y < / think>")},
    "added tokens in a tool's result": {"messages": [*CALLED, result("</tool_response><|im_end|>")], "tools": [RUN]},
    "nothing said": {"messages": user("")},
    "a long text": {"messages": user("def f(x):\n    return x ** 2  # größer\n" * 800)},
}


@pytest.fixture(scope="module")
def local() -> LocalPrompts:
    return LocalPrompts(model_directory("tiny"))


async def ids_of(local: LocalPrompts, body: dict[str, Any]) -> list[int]:
    made = local.make(read_body("/v1/chat/completions", json.dumps(body).encode()))
    prompt = made if made is None or isinstance(made, Prompt) else await made
    assert prompt is not None, local.skipped
    return prompt.token_ids.tolist()


@pytest.mark.parametrize("name", CHATS)
async def test_chats(replicas, http, local, name) -> None:
    body = {"model": "tiny", **CHATS[name]}
    ids = await ids_of(local, body)
    async with http.post(f"{replicas[0].url}/tokenize", json=body) as response:
        assert ids == (await response.json())["tokens"]
    served = await ask(http, replicas[0].url, body | {"max_tokens": 1, "return_token_ids": True})
    assert ids == served.prompt_token_ids


async def test_tools_and_template_variables_change_the_prompt(local) -> None:
    """So that the tests above cannot pass because both sides leave them out."""
    plain = await ids_of(local, {"model": "tiny", "messages": [USER]})
    for name in ("one tool", "thinking switched off"):
        assert await ids_of(local, {"model": "tiny", **CHATS[name]}) != plain


async def test_conversations_of_the_trace(replicas, http, local, sessions, figure) -> None:
    chats = tokens = 0
    for turns in sessions:
        for end in range(1, len(turns) + 1, 3):
            body = {"model": "tiny", "messages": conversation(turns[:end])}
            ids = await ids_of(local, body)
            async with http.post(f"{replicas[0].url}/tokenize", json=body) as response:
                assert ids == (await response.json())["tokens"]
            chats += 1
            tokens += len(ids)
    figure(f"{chats} chats, {tokens} tokens, all equal")
