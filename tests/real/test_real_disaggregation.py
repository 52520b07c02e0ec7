"""Prompts are computed on one replica and answered on another, which fetches their KV: vLLM's NixlConnector."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import WeftMaker
from kv_transfer import (
    KvRole,
    computed_tokens,
    held_blocks,
    nixl_replica,
    shared_storage_replica,
    transferred_tokens,
)
from real_client import Answer, ask
from replicas import Replica, model_directory, running
from weft_process import Weft

LEASE_S = 6.0
DEADLINE_S = 20.0
ALWAYS = {"disaggregation": {"rule": "always", "connector": "nixl"}}
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
WORDS = ("weft", "warp", "thread", "loom", "shuttle", "cloth", "a", "the", "across", "through", "is carried", ".")

Body = dict[str, Any]


@pytest.fixture(scope="module")
def fleet(logs: Path) -> Iterator[list[Replica]]:
    """One for prefill, two for decoding: what these cannot fetch fails on the first, and is computed on the second."""
    yield from running(
        [
            nixl_replica(KvRole.PREFILL, logs / "prefill.log", lease_s=LEASE_S),
            nixl_replica(KvRole.DECODE, logs / "decode-fails.log", load_failure_policy="fail"),
            nixl_replica(KvRole.DECODE, logs / "decode-recomputes.log", load_failure_policy="recompute"),
        ]
    )


@pytest.fixture
def alive(fleet: list[Replica]) -> list[Replica]:
    """All of them, those that the test before has killed started again."""
    killed = [replica for replica in fleet if not replica.is_started]
    for replica in killed:
        replica.start()
    for replica in killed:
        replica.wait_until_ready()
    return fleet


@pytest.fixture
def route(weft: WeftMaker):
    """``with route(replicas) as router:`` each prompt is computed on the prefill replica."""
    return lambda replicas: weft(replicas, "--tokenizer", str(model_directory("tiny")), config=ALWAYS)


def text_of(words: int, seed: int) -> str:
    return " ".join(f"{WORDS[(number * 7 + seed) % len(WORDS)]} {number * seed}" for number in range(words))


def chat(messages: list[Body], **options: Any) -> Body:
    return request(messages=messages, **options)


def request(**body: Any) -> Body:
    """Greedy, with the answer's token ids."""
    asked = {"model": "tiny", "max_tokens": 24, "temperature": 0, "return_token_ids": True, **body}
    return asked | ({"stream_options": {"include_usage": True}} if asked.get("stream") else {})


def fresh_chat(seed: int, **options: Any) -> Body:
    return chat([{"role": "user", "content": text_of(120, seed)}], **options)


async def alone(http: aiohttp.ClientSession, replica: Replica, body: Body, path: str = CHAT) -> Answer:
    """The same request to one replica that holds nothing of it."""
    await asyncio.to_thread(replica.empty_cache)
    return await ask(http, replica.url, body, path=path)


def said(answer: Answer) -> tuple[list[int], str, str, int, int]:
    """All that must not depend on where a prompt was computed."""
    assert answer.is_whole, answer
    return answer.token_ids, answer.text, answer.finish_reason, answer.prompt_tokens, answer.completion_tokens


async def until(condition, what: str, timeout_s: float = DEADLINE_S) -> float:
    """Seconds that it took."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while not await asyncio.to_thread(condition):
        assert loop.time() < began_s + timeout_s, f"not in time: {what}"
        await asyncio.sleep(0.02)
    return loop.time() - began_s


@asynccontextmanager
async def paused(replica: Replica) -> AsyncIterator[None]:
    """It takes requests and schedules none of them."""
    await asyncio.to_thread(replica.pause)
    try:
        yield
    finally:
        if replica.is_started:
            await asyncio.to_thread(replica.resume)


async def meet(http: aiohttp.ClientSession, router: Weft, decode: Replica, seed: int) -> None:
    """One request through both legs, so that the replicas know each other."""
    before = transferred_tokens(decode)
    assert (await ask(http, router.url, fresh_chat(seed))).is_whole
    assert transferred_tokens(decode) > before


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_conversation_has_the_same_tokens_as_on_one_replica(alive, route, http, figure, stream) -> None:
    prefill, decode, _ = alive
    messages: list[Body] = [{"role": "system", "content": text_of(300, 3 + stream)}]
    answers, bodies = [], []
    with route([prefill, decode]) as router:
        transferred, computed = transferred_tokens(decode), computed_tokens(decode)
        for turn in range(4):
            messages.append({"role": "user", "content": text_of(40, turn + 11)})
            bodies.append(chat(list(messages), stream=stream))
            answers.append(await ask(http, router.url, bodies[-1]))
            messages.append({"role": "assistant", "content": answers[-1].text})
        transferred, computed = transferred_tokens(decode) - transferred, computed_tokens(decode) - computed

    assert [said(answer) for answer in answers] == [said(await alone(http, decode, body)) for body in bodies]
    assert {answer.replica for answer in answers} == {decode.name}
    assert computed == 0
    figure(
        f"4 turns, up to {answers[-1].prompt_tokens} tokens: {transferred} transferred, none computed by who answered"
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "prompt", [text_of(200, 5), list(range(300, 1300)), [400, 500, 600]], ids=["text", "ids", "short"]
)
async def test_completions_have_the_same_tokens_as_on_one_replica(alive, route, http, prompt, stream) -> None:
    prefill, decode, _ = alive
    body = request(prompt=prompt, stream=stream)
    for replica in (prefill, decode):
        replica.empty_cache()
    with route([prefill, decode]) as router:
        before = transferred_tokens(decode)
        answer = await ask(http, router.url, body, path=COMPLETION)
        assert transferred_tokens(decode) - before == answer.prompt_tokens
    assert said(answer) == said(await alone(http, decode, body, COMPLETION))


async def test_usage_says_what_the_prefill_replica_had_cached(alive, route, http) -> None:
    prefill, decode, _ = alive
    with route([prefill, decode]) as router:
        first = await ask(http, router.url, fresh_chat(21))
        decode.empty_cache()
        again = await ask(http, router.url, fresh_chat(21, stream=True))
    assert (first.cached_tokens, again.cached_tokens) == (0, (again.prompt_tokens - 1) // 16 * 16)


@pytest.mark.parametrize("policy", ["fail", "recompute"])
async def test_the_prefill_replica_dies_between_the_legs(alive, route, http, figure, policy) -> None:
    prefill = alive[0]
    decode = alive[1 if policy == "fail" else 2]
    bodies = [fresh_chat(31), fresh_chat(32, stream=True)]
    with route([prefill, decode]) as router:
        await meet(http, router, decode, 33)
        async with paused(decode):
            asking = [asyncio.create_task(ask(http, router.url, body)) for body in bodies]
            await until(lambda: decode.answering() == 2, "the second legs wait in the decode replica")
            assert held_blocks(prefill) > 0
            prefill.kill()
        answers = [await each for each in asking]
        assert router.metric("weft_pd_served_whole_total", reason="decode_failed") == (2 if policy == "fail" else 0)
    assert [said(answer) for answer in answers] == [said(await alone(http, decode, body)) for body in bodies]
    figure(" and ".join(f"{answer.ttft_s:.2f} s" for answer in answers) + " after they were asked")


async def test_a_prefill_replica_that_has_just_died_is_done_without(alive, route, http) -> None:
    prefill, decode, _ = alive
    bodies = [fresh_chat(61 + number, stream=number % 2 == 1) for number in range(4)]
    with route([prefill, decode]) as router:
        await meet(http, router, decode, 60)
        prefill.kill()
        answers = [await ask(http, router.url, body) for body in bodies]
        await until(lambda: router.health(prefill) != "healthy", "the router sees that it is gone")
        answers.append(await ask(http, router.url, bodies[0]))
        fallbacks = {labels["reason"]: count for labels, count in router.samples("weft_pd_fallbacks_total") if count}
        assert set(fallbacks) <= {"prefill_failed", "no_prefill_replica"}
        assert sum(fallbacks.values()) == len(answers)
    for answer, body in zip(answers, [*bodies, bodies[0]], strict=True):
        assert said(answer) == said(await alone(http, decode, body))


async def test_a_decode_replica_dies_before_its_first_byte(alive, route, http, figure) -> None:
    prefill, victim, other = alive
    body = fresh_chat(71, stream=True)
    expired = prefill.metric("vllm:nixl_num_kv_expired_reqs_total")
    with route([prefill, victim, other]) as router:
        async with paused(victim), paused(other):
            asking = asyncio.create_task(ask(http, router.url, body))
            await until(lambda: victim.answering() or other.answering(), "the second leg waits in a decode replica")
            if other.answering():
                victim, other = other, victim
            kept = held_blocks(prefill)
            await asyncio.to_thread(victim.kill)
            await asyncio.to_thread(other.resume)
            answer = await asking
        assert answer.replica == other.name
        freed_s = await until(lambda: held_blocks(prefill) == 0, "the blocks are free", LEASE_S + DEADLINE_S)
        assert router.metric("weft_pd_stranded_total") == 1
    expired = prefill.metric("vllm:nixl_num_kv_expired_reqs_total") - expired
    assert said(answer) == said(await alone(http, other, body))
    assert kept > 0
    assert expired == 1
    figure(f"{kept} blocks on the prefill replica free {freed_s:.1f} s later, {expired:.0f} by the end of their lease")


async def test_a_client_s_own_transfer_parameters_do_not_reach_vllm(alive, route, http) -> None:
    """Incomplete ones end its engine."""
    prefill, decode, _ = alive
    body = fresh_chat(76) | {"kv_transfer_params": {"do_remote_prefill": True}}
    with route([prefill, decode]) as router:
        assert (await ask(http, router.url, body)).status == 400
        assert (await ask(http, router.url, fresh_chat(77))).is_whole


async def test_a_client_leaves_during_the_first_leg(alive, route, http) -> None:
    prefill, decode, _ = alive
    with route([prefill, decode]) as router:
        async with paused(prefill):
            asking = asyncio.create_task(ask(http, router.url, fresh_chat(81)))
            await until(lambda: prefill.answering(), "the first leg waits in the prefill replica")
            asking.cancel()
            await until(lambda: not prefill.answering(), "the prefill replica has forgotten it")
        assert held_blocks(prefill) == 0
        assert (await ask(http, router.url, fresh_chat(82))).is_whole
        assert router.metric("weft_requests_in_flight") == 0


async def test_a_client_leaves_while_the_decode_replica_has_yet_to_fetch(alive, route, http, figure) -> None:
    prefill, decode, _ = alive
    expired = prefill.metric("vllm:nixl_num_kv_expired_reqs_total")
    with route([prefill, decode]) as router:
        async with paused(decode):
            asking = asyncio.create_task(ask(http, router.url, fresh_chat(91, stream=True)))
            await until(lambda: decode.answering(), "the second leg waits in the decode replica")
            kept = held_blocks(prefill)
            asking.cancel()
            await until(lambda: not decode.answering(), "the decode replica has forgotten it")
            freed_s = await until(lambda: held_blocks(prefill) == 0, "the blocks are free", LEASE_S + DEADLINE_S)
        assert (await ask(http, router.url, fresh_chat(92))).is_whole
        assert router.metric("weft_requests_in_flight") == 0
    expired = prefill.metric("vllm:nixl_num_kv_expired_reqs_total") - expired
    assert kept > 0
    figure(f"{kept} blocks free {freed_s:.1f} s after the client left, {expired:.0f} by the end of their lease")


def forget(replica: Replica, folder: Path) -> None:
    """Of a prompt of one token, as ``Replica.step`` sends it, ExampleConnector loads -16, which ends the engine."""
    replica.reset_prefix_cache()
    for prompt in folder.iterdir():
        shutil.rmtree(prompt)


async def test_kv_goes_through_a_folder(weft: WeftMaker, http, logs: Path, tmp_path: Path) -> None:
    replicas = [shared_storage_replica(role, tmp_path, logs / f"folder-{role}.log") for role in ("prefill", "decode")]
    config = {"disaggregation": {"rule": "always", "connector": "shared-storage"}}
    bodies = [fresh_chat(101), fresh_chat(102, stream=True)]
    for prefill, decode in running(replicas):
        expected = [said(await ask(http, prefill.url, body)) for body in bodies]
        forget(prefill, tmp_path)
        with weft([prefill, decode], "--tokenizer", str(model_directory("tiny")), config=config) as router:
            answers = [await ask(http, router.url, body) for body in bodies]
        assert [said(answer) for answer in answers] == expected
        assert {answer.replica for answer in answers} == {decode.name}
        assert transferred_tokens(decode) == sum((answer.prompt_tokens - 2) // 16 * 16 for answer in answers)
