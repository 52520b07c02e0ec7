"""A simulated replica over HTTP."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from replica_world import ENGINE, Client, eventually, replica_client, sse

from sim.engine import Policy

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


async def test_a_second_request_with_the_same_prefix_reports_cached_tokens(client: Client) -> None:
    prompt = list(range(100))
    await client.complete(prompt=prompt, max_tokens=2)
    again = await client.complete(prompt=[*prompt[:70], 5], max_tokens=2)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 64


async def test_the_next_turn_of_a_chat_finds_the_answer_of_the_last_in_the_cache(client: Client) -> None:
    messages = [{"role": "user", "content": "Tell me about the weather in every city that you know. " * 4}]
    _, first = await client.post("/v1/chat/completions", messages=messages, max_tokens=40)
    answer = first["choices"][0]["message"]
    messages += [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": "And then?"}]

    _, second = await client.post("/v1/chat/completions", messages=messages, max_tokens=1)

    computed = first["usage"]["total_tokens"] - 1
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == computed - computed % 16


async def test_a_stream_says_the_same_as_the_whole_answer(client: Client) -> None:
    _, whole = await client.post("/v1/chat/completions", **HELLO, max_tokens=12)
    events = await client.events("/v1/chat/completions", **HELLO, max_tokens=12)

    *chunks, done = events
    assert done == "[DONE]"
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_usage_in_a_stream_comes_only_when_asked_for_and_last(client: Client) -> None:
    await client.complete(prompt=list(range(40)), max_tokens=1)
    plain = await client.events("/v1/completions", prompt=list(range(40)), max_tokens=3)
    assert not any("usage" in chunk for chunk in plain[:-1])

    options = {"include_usage": True}
    *_, last, _ = await client.events("/v1/completions", prompt=list(range(40)), max_tokens=3, stream_options=options)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 40,
        "total_tokens": 43,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 32},
    }


async def test_several_prompts_are_several_choices(client: Client) -> None:
    prompts = [[1, 2, 3], [4, 5]]
    whole = await client.complete(prompt=prompts, max_tokens=4)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    assert whole["usage"]["completion_tokens"] == 8

    streamed = {0: "", 1: ""}
    for event in (await client.events("/v1/completions", prompt=prompts, max_tokens=4))[:-1]:
        choice = event["choices"][0]
        streamed[choice["index"]] += choice["text"]
    assert list(streamed.values()) == [choice["text"] for choice in whole["choices"]]


@pytest.mark.parametrize(
    ("body", "tokens", "reason"),
    [
        ({"max_tokens": 7}, 7, "length"),
        ({"max_completion_tokens": 7, "max_tokens": 3}, 7, "length"),
        ({"vllm_xargs": {"sim_output_tokens": 5}}, 5, "stop"),
        ({"vllm_xargs": {"sim_output_tokens": 5}, "max_tokens": 3}, 3, "length"),
        ({"vllm_xargs": {"sim_output_tokens": 5}, "min_tokens": 8}, 8, "stop"),
        ({"vllm_xargs": {"sim_output_tokens": 5}, "ignore_eos": True, "max_tokens": 9}, 9, "length"),
    ],
)
async def test_length_of_an_answer(client: Client, body: dict[str, Any], tokens: int, reason: str) -> None:
    _, answer = await client.post("/v1/chat/completions", **HELLO, **body)
    assert answer["usage"]["completion_tokens"] == tokens
    assert answer["choices"][0]["finish_reason"] == reason


async def test_an_answer_without_limits_ends_by_itself(client: Client) -> None:
    _, answer = await client.post("/v1/chat/completions", **HELLO)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert 16 <= answer["usage"]["completion_tokens"] <= 400


async def test_the_request_id_becomes_the_id(client: Client) -> None:
    headers = {"X-Request-Id": "mine"}
    async with client.session.post(
        client.replica.url + "/v1/completions", json={"prompt": "x"}, headers=headers
    ) as response:
        assert (await response.json())["id"] == "cmpl-mine"


async def test_token_ids_of_the_answer_are_those_of_its_text(client: Client) -> None:
    answer = await client.complete(prompt="hello", max_tokens=30, return_token_ids=True)
    _, tokenized = await client.post("/tokenize", prompt=answer["choices"][0]["text"])
    assert tokenized["tokens"] == answer["choices"][0]["token_ids"]


async def test_tokenize_gives_the_ids_that_a_chat_is_served_with(client: Client) -> None:
    tool = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
    for extra in ({}, {"tools": [tool]}, {"add_generation_prompt": False}):
        _, tokenized = await client.post("/tokenize", **HELLO, **extra, return_token_strs=True)
        _, answer = await client.post("/v1/chat/completions", **HELLO, **extra, max_tokens=1)
        assert tokenized["count"] == len(tokenized["tokens"]) == len(tokenized["token_strs"])
        assert tokenized["count"] == answer["usage"]["prompt_tokens"]
        assert tokenized["max_model_len"] == 1024


async def test_tokenize_takes_a_text_even_an_empty_one(client: Client) -> None:
    nothing = {"count": 0, "max_model_len": 1024, "tokens": [], "token_strs": None}
    assert await client.post("/tokenize", prompt="") == (200, nothing)
    assert (await client.post("/tokenize", prompt="a b"))[1]["count"] == 2


async def test_the_client_leaves_and_its_request_leaves_the_engine(client: Client) -> None:
    engine = client.replica.engine
    url = client.replica.url + "/v1/completions"
    body = {"prompt": "x", "max_tokens": 1000, "ignore_eos": True}

    async with client.session.post(url, json={**body, "stream": True}) as response:
        assert await anext(sse(response))
    await eventually(lambda: not engine.has_work)

    whole = asyncio.create_task(client.post("/v1/completions", **body))
    await eventually(lambda: engine.running == 1)
    whole.cancel()
    await eventually(lambda: not engine.has_work)
    assert (engine.kv_usage, client.replica.driver.in_flight) == (0.0, 0)


async def test_a_queued_request_leaves_as_well() -> None:
    async with replica_client(engine=replace(ENGINE, max_num_seqs=1)) as client:
        engine = client.replica.engine
        tasks = [asyncio.create_task(client.complete(prompt=[i], max_tokens=900)) for i in range(2)]
        await eventually(lambda: engine.running == 1 and engine.waiting == 1)
        tasks[1].cancel()
        await eventually(lambda: engine.waiting == 0)
        assert engine.running == 1
        tasks[0].cancel()


@pytest.mark.parametrize("by_header", [True, False])
async def test_priority_overtakes_the_queue(by_header: bool) -> None:
    engine = replace(ENGINE, max_num_seqs=1, policy=Policy.PRIORITY)
    async with replica_client(engine=engine) as client:
        finished: list[str] = []

        async def ask(name: str, priority: int) -> None:
            body: dict[str, Any] = {"prompt": name, "max_tokens": 20}
            headers = {"X-Vllm-Priority": str(priority)} if by_header else {}
            body |= {} if by_header else {"priority": priority}
            async with client.session.post(
                client.replica.url + "/v1/completions", json=body, headers=headers
            ) as response:
                await response.read()
            finished.append(name)

        running = asyncio.create_task(ask("first", 0))
        await eventually(lambda: client.replica.engine.running == 1)
        others = [asyncio.create_task(ask("later", 5)), asyncio.create_task(ask("urgent", -5))]
        await asyncio.gather(running, *others)

    assert finished == ["first", "urgent", "later"]


async def test_metrics_speak_vllms_names(client: Client) -> None:
    for _ in range(2):
        await client.complete(prompt=list(range(40)), max_tokens=3)

    assert await client.metric("vllm:num_requests_running") == 0
    assert await client.metric("vllm:kv_cache_usage_perc") == 0
    assert await client.metric("vllm:prefix_cache_queries_total") == 80
    assert await client.metric("vllm:prefix_cache_hits_total") == 32
    assert await client.metric("vllm:prompt_tokens_total") == 80
    assert await client.metric("vllm:prompt_tokens_by_source_total") == 80
    assert await client.metric("vllm:generation_tokens_total") == 6
    assert await client.metric("vllm:request_success_total") == 2
    assert await client.metric("vllm:inter_token_latency_seconds_count") == 4
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time", "request_prefill_time"):
        assert await client.metric(f"vllm:{name}_seconds_count") == 2
    _, text = await client.get("/metrics")
    (info,) = [line for line in text.splitlines() if line.startswith("vllm:cache_config_info")]
    assert 'block_size="16"' in info
    assert 'num_gpu_blocks="129"' in info


async def test_load_counts_what_is_under_way(client: Client) -> None:
    running = asyncio.create_task(client.complete(prompt="x", max_tokens=300))
    await eventually(lambda: client.replica.driver.in_flight == 1)
    assert json.loads((await client.get("/load"))[1]) == {"server_load": 1}
    running.cancel()
    await eventually(lambda: client.replica.driver.in_flight == 0)


async def test_small_routes(client: Client) -> None:
    assert await client.get("/health") == (200, "")
    assert json.loads((await client.get("/version"))[1]) == {"version": "0.32.0"}
    models = json.loads((await client.get("/v1/models"))[1])["data"]
    assert [(model["id"], model["max_model_len"]) for model in models] == [("tiny", 1024)]


async def test_unknown_paths_and_methods(client: Client) -> None:
    assert await client.post("/v1/embeddings", input="x") == (404, {"detail": "Not Found"})
    status, text = await client.get("/v1/completions")
    assert (status, json.loads(text)) == (405, {"detail": "Method Not Allowed"})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b"[]"),
        ("/v1/chat/completions", b'{"messages": "x"}'),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": {"a": 1}}]}'),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "x"}], "n": 2}'),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": "many"}'),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "x"}], "chat_template": "{{ 1 }}"}'),
        ("/v1/chat/completions", b"\xff\xfe{}"),
        ("/v1/chat/completions", b"[" * 100_000),
        ("/v1/completions", b'{"prompt": [1, "x"]}'),
        ("/v1/completions", b'{"prompt": [[]]}'),
        ("/v1/completions", b'{"prompt": [[1], 2]}'),
        ("/v1/completions", b'{"prompt": [[1], []]}'),
        ("/v1/completions", b'{"prompt": ["x", ""]}'),
        ("/v1/completions", b'{"prompt": [true]}'),
        ("/v1/completions", b'{"prompt": {"a": 1}}'),
        ("/v1/completions", b'{"prompt": [-1]}'),
        ("/v1/completions", b'{"prompt": 7}'),
        ("/v1/completions", b'{"prompt": "x", "logprobs": 1}'),
        ("/v1/completions", b'{"prompt": "x", "min_tokens": 9, "max_tokens": 3}'),
        ("/v1/completions", b'{"prompt": "x", "vllm_xargs": {"sim_output_tokens": 0}}'),
        ("/tokenize", b'{"prompt": 7}'),
        ("/tokenize", b'{"messages": [{"role": "user", "content": "x"}], "chat_template": "{{ 1 }}"}'),
        ("/sim/fault", b'{"kind": "earthquake"}'),
        ("/sim/fault", b'{"kind": "slow", "factor": 0}'),
    ],
)
async def test_what_cannot_be_served_is_a_400_with_a_message(client: Client, path: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    async with client.session.post(client.replica.url + path, data=body, headers=headers) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["code"] == 400
    assert error["message"]
    assert client.replica.driver.in_flight == 0


async def test_answers_are_the_same_for_a_seed_and_others_for_another() -> None:
    texts = []
    for seed in (1, 1, 2):
        async with replica_client(seed=seed) as client:
            texts.append((await client.complete(prompt="hello", max_tokens=20))["choices"][0]["text"])
    assert texts[0] == texts[1] != texts[2]


async def test_idle_connections_are_closed_as_by_vllm(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.replica.replica.KEEP_ALIVE_S", 0.05)
    await client.replica.stop()
    await client.replica.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.replica.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


async def test_stopping_ends_answers_with_abort(client: Client) -> None:
    body = {"prompt": "x", "max_tokens": 1000, "stream": True}
    async with client.session.post(client.replica.url + "/v1/completions", json=body) as response:
        stream = sse(response)
        await anext(stream)
        stopping = asyncio.create_task(client.replica.stop())
        *_, last, done = [event async for event in stream]
        await stopping
    assert last["choices"][0]["finish_reason"] == "abort"
    assert done == "[DONE]"
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get("/health")
