"""Prefill on one simulated replica, decode on another, as vLLM's connectors have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from replica_world import DEADLINE_S, ENGINE, Client, Subscriber, eventually, settings

from router.core.types import Role
from sim.engine import KvLoadFailurePolicy, TransferModel
from sim.replica.serving import serve_replicas
from sim.replica.settings import KvTransfer

FIRST_LEG = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
MODEL = TransferModel(bytes_per_token=1000, bandwidth_bytes_per_s=1e9, latency_s=0.001)
PROMPT = list(range(100))
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the weather like? " * 8}]}
INTERNAL_ERROR = {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}


@dataclass
class Pair:
    prefill: Client
    decode: Client

    async def first_leg(self, path: str = "/v1/completions", **body: Any) -> dict[str, Any]:
        """What its answer says to the second."""
        asked = {**body, "max_tokens": 1, "stream": False, "kv_transfer_params": FIRST_LEG}
        status, answer = await self.prefill.post(path, **asked)
        assert status == 200, answer
        params: dict[str, Any] = answer["kv_transfer_params"]
        return params

    @property
    def kept(self) -> int:
        return self.prefill.replica.engine.kept

    async def transferred(self) -> float:
        _, text = await self.decode.get("/metrics")
        return sample(text, "vllm:prompt_tokens_by_source_total", source="external_kv_transfer")


def sample(text: str, name: str, **labels: str) -> float:
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    (line,) = [each for each in text.splitlines() if each.startswith(name + "{") and all(one in each for one in wanted)]
    return float(line.rpartition(" ")[2])


@asynccontextmanager
async def pair(storage: Path | None = None, model: TransferModel = MODEL, **engine: Any) -> AsyncIterator[Pair]:
    made = settings(engine=replace(ENGINE, **engine), kv_transfer=KvTransfer(model, storage=storage))
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with (
        serve_replicas(0, made, prefill=1, decode=1) as (prefill, decode),
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        assert (prefill.settings.role, decode.settings.role) == (Role.PREFILL, Role.DECODE)
        yield Pair(Client(prefill, session), Client(decode, session))


@pytest.fixture
async def legs() -> AsyncIterator[Pair]:
    async with pair() as made:
        yield made


async def test_the_first_legs_answer_says_all_that_the_second_must_know(legs: Pair) -> None:
    await legs.prefill.complete(prompt=PROMPT[:50], max_tokens=1)
    params = await legs.first_leg(prompt=PROMPT)

    engine_id, request_id = params.pop("remote_engine_id"), params.pop("remote_request_id")
    assert len(engine_id) == 36
    assert request_id.startswith("cmpl-")
    assert params.pop("remote_port") > 0
    (blocks,) = params.pop("remote_block_ids")
    assert len(blocks) == 7
    assert params == {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_host": "127.0.0.1",
        "tp_size": 1,
        "dcp_size": 1,
        "pp_size": 1,
        "remote_num_tokens": 100,
        "remote_blocks_expiry_time": None,
        "transfer_mode": "pull",
        "remote_prefill_cached_tokens": 48,
    }


@pytest.mark.parametrize(("path", "body"), [("/v1/completions", {"prompt": PROMPT}), ("/v1/chat/completions", CHAT)])
async def test_the_second_leg_answers_as_one_replica_alone(legs: Pair, path: str, body: dict[str, Any]) -> None:
    params = await legs.first_leg(path, **body)
    _, answer = await legs.decode.post(path, **body, max_tokens=12, kv_transfer_params=params)
    again = await legs.first_leg(path, **body)
    streamed = await legs.decode.events(path, **body, max_tokens=12, kv_transfer_params=again)
    _, alone = await legs.prefill.post(path, **body, max_tokens=12)

    def said(choice: dict[str, Any]) -> str:
        written = choice.get("message") or choice.get("delta") or choice
        return str(written.get("content") or written.get("text") or "")

    assert said(answer["choices"][0]) == said(alone["choices"][0])
    assert "".join(said(each["choices"][0]) for each in streamed[:-1]) == said(alone["choices"][0])
    assert answer["kv_transfer_params"] is None
    assert answer["usage"]["completion_tokens"] == 12


async def test_the_second_leg_computes_nothing_of_the_prompt(legs: Pair) -> None:
    params = await legs.first_leg(prompt=PROMPT)
    await legs.decode.complete(prompt=PROMPT, max_tokens=3, kv_transfer_params=params)

    _, text = await legs.decode.get("/metrics")
    by_source = {
        source: sample(text, "vllm:prompt_tokens_by_source_total", source=source)
        for source in ("local_compute", "local_cache_hit", "external_kv_transfer")
    }
    assert by_source == {"local_compute": 0, "local_cache_hit": 0, "external_kv_transfer": 100}
    assert sample(text, "vllm:prompt_tokens_cached_by_source_total", source="p2p") == 100
    assert sample(text, "vllm:external_prefix_cache_hits_total") == 100
    assert sample(text, "vllm:external_prefix_cache_queries_total") == 100
    assert sample(text, "vllm:nixl_bytes_transferred_sum") == 100 * MODEL.bytes_per_token
    assert sample(text, "vllm:nixl_xfer_time_seconds_count") == 1


async def test_only_what_the_second_replica_does_not_hold_is_fetched(legs: Pair) -> None:
    await legs.decode.complete(prompt=PROMPT[:70], max_tokens=1)
    params = await legs.first_leg(prompt=PROMPT)
    await legs.decode.complete(prompt=PROMPT, max_tokens=1, kv_transfer_params=params)
    assert await legs.transferred() == 100 - 64


async def test_usage_says_what_the_first_replica_had_cached(legs: Pair) -> None:
    await legs.prefill.complete(prompt=PROMPT[:50], max_tokens=1)
    params = await legs.first_leg(prompt=PROMPT)
    answer = await legs.decode.complete(prompt=PROMPT, max_tokens=1, kv_transfer_params=params)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 48


async def test_transferred_blocks_are_published_like_computed_ones(legs: Pair) -> None:
    subscriber = Subscriber(legs.decode.replica)
    await subscriber.joined(legs.decode)
    params = await legs.first_leg(prompt=[200, *PROMPT])
    await legs.decode.complete(prompt=[200, *PROMPT], max_tokens=1, kv_transfer_params=params)
    stored: list[int] = []
    while len(stored) < 96:
        for event in (await subscriber.batch()).stored:
            stored += event["token_ids"]
    subscriber.close()
    assert stored == [200, *PROMPT][:96]

    again = await legs.decode.complete(prompt=[200, *PROMPT], max_tokens=1)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 96


async def test_blocks_are_kept_until_they_are_fetched(legs: Pair) -> None:
    params = await legs.first_leg(prompt=PROMPT)
    assert await legs.prefill.metric("vllm:kv_cache_usage_perc") == 7 / 128
    await legs.decode.complete(prompt=PROMPT, max_tokens=1, kv_transfer_params=params)
    assert await legs.prefill.metric("vllm:kv_cache_usage_perc") == 0


async def test_blocks_that_nobody_fetches_are_kept_until_the_lease_ends() -> None:
    async with pair(kv_lease_duration_s=0.05) as legs:
        params = await legs.first_leg(prompt=PROMPT)
        await eventually(lambda: not legs.kept)
        assert await legs.prefill.metric("vllm:kv_cache_usage_perc") == 0
        assert await legs.prefill.metric("vllm:nixl_num_kv_expired_reqs_total") == 1

        late = await legs.decode.complete(prompt=PROMPT, max_tokens=1, kv_transfer_params=params)
        assert late["usage"]["completion_tokens"] == 1
        assert await legs.prefill.metric("vllm:nixl_num_notifications_after_expiry_total") == 1


async def test_blocks_are_kept_for_who_still_waits_for_room() -> None:
    async with pair(kv_lease_duration_s=0.1, max_model_len_tokens=400, num_blocks=26) as legs:
        engine = legs.decode.replica.engine
        filling = asyncio.create_task(legs.decode.complete(prompt=[9] * 300, max_tokens=50, ignore_eos=True))
        await eventually(lambda: engine.running == 1)
        await legs.decode.fault("hang")

        params = await legs.first_leg(prompt=PROMPT)
        asking = asyncio.create_task(legs.decode.complete(prompt=PROMPT, max_tokens=1, kv_transfer_params=params))
        await asyncio.sleep(0.3)
        assert (engine.waiting, legs.kept) == (1, 1)

        await legs.decode.fault("none")
        await asyncio.gather(filling, asking)
        assert await legs.transferred() == 100
        assert await legs.prefill.metric("vllm:nixl_num_kv_expired_reqs_total") == 0


async def test_kept_blocks_hold_up_what_waits_for_room() -> None:
    async with pair(max_model_len_tokens=400, num_blocks=26) as legs:
        params = await legs.first_leg(prompt=list(range(300)))
        waiting = asyncio.create_task(legs.prefill.complete(prompt=list(range(500, 700)), max_tokens=1))
        await eventually(lambda: legs.prefill.replica.engine.waiting == 1)

        await legs.decode.complete(prompt=list(range(300)), max_tokens=1, kv_transfer_params=params)
        assert (await waiting)["usage"]["completion_tokens"] == 1


async def test_a_streamed_first_leg_says_nothing_of_its_blocks(legs: Pair) -> None:
    events = await legs.prefill.events("/v1/completions", prompt=PROMPT, max_tokens=1, kv_transfer_params=FIRST_LEG)
    assert not any("kv_transfer_params" in event for event in events)
    assert legs.kept == 1


async def test_a_first_leg_whose_client_leaves_keeps_nothing(legs: Pair) -> None:
    await legs.prefill.fault("hang")
    asking = asyncio.create_task(legs.first_leg(prompt=PROMPT))
    await eventually(lambda: legs.prefill.replica.driver.in_flight == 1)
    asking.cancel()
    await eventually(lambda: legs.prefill.replica.driver.in_flight == 0)
    assert legs.prefill.replica.engine.kv_usage == 0


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"model": "other"}, {"prompt": []}])
async def test_what_the_second_replica_refuses_is_given_back(legs: Pair, wrong: dict[str, Any]) -> None:
    params = await legs.first_leg(prompt=PROMPT)
    status, _ = await legs.decode.post("/v1/completions", **{"prompt": PROMPT, "kv_transfer_params": params, **wrong})
    assert status in (400, 404)
    await eventually(lambda: not legs.kept)


async def test_what_nobody_waits_for_any_more_is_given_back(legs: Pair) -> None:
    params = await legs.first_leg(prompt=PROMPT)
    await legs.decode.fault("hang")
    asking = asyncio.create_task(legs.decode.complete(prompt=PROMPT, kv_transfer_params=params))
    await eventually(lambda: legs.decode.replica.driver.in_flight == 1)
    asking.cancel()
    await eventually(lambda: not legs.kept)


async def test_a_second_leg_meets_a_first_replica_that_has_gone(legs: Pair) -> None:
    met = await legs.first_leg(prompt=PROMPT[:20])
    await legs.decode.complete(prompt=PROMPT[:20], max_tokens=1, kv_transfer_params=met)
    params = await legs.first_leg(prompt=PROMPT)
    await legs.prefill.fault("crash", down_s=3600)
    await eventually(lambda: not legs.prefill.replica._up)

    asked = {"prompt": PROMPT, "max_tokens": 2, "kv_transfer_params": params}
    assert await legs.decode.post("/v1/completions", **asked) == (500, {"error": INTERNAL_ERROR})
    assert await legs.decode.events("/v1/completions", **asked) == [{"error": INTERNAL_ERROR}, "[DONE]"]
    assert await legs.decode.metric("vllm:nixl_num_failed_transfers_total") == 2
    assert legs.decode.replica.engine.kv_usage == 0

    plain = await legs.decode.complete(prompt=PROMPT, max_tokens=2)
    assert plain["usage"]["completion_tokens"] == 2


async def test_a_first_replica_that_has_restarted_is_another_one(legs: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.replica.kv_transfer.nixl.HANDSHAKE_LIMIT_S", 0.0)
    params = await legs.first_leg(prompt=PROMPT)
    await legs.prefill.fault("restart")
    await eventually(lambda: legs.prefill.replica.starts == 2)
    again = await legs.first_leg(prompt=PROMPT)
    assert again["remote_port"] == params["remote_port"]
    assert again["remote_engine_id"] != params["remote_engine_id"]

    status, _ = await legs.decode.post("/v1/completions", prompt=PROMPT, kv_transfer_params=params)
    assert status == 500
    assert legs.kept == 1
    await legs.decode.complete(prompt=PROMPT, max_tokens=1, kv_transfer_params=again)


async def test_a_replica_may_compute_what_it_cannot_fetch() -> None:
    async with pair(kv_load_failure_policy=KvLoadFailurePolicy.RECOMPUTE) as legs:
        params = await legs.first_leg(prompt=PROMPT)
        await legs.decode.fault("fail_transfers")
        answer = await legs.decode.complete(prompt=PROMPT, max_tokens=5, kv_transfer_params=params)
        alone = await legs.prefill.complete(prompt=PROMPT, max_tokens=5)
        assert answer["choices"][0]["text"] == alone["choices"][0]["text"]
        assert await legs.transferred() == 0

        await legs.decode.fault("none")
        params = await legs.first_leg(prompt=[7, *PROMPT])
        await legs.decode.complete(prompt=[7, *PROMPT], max_tokens=5, kv_transfer_params=params)
        assert await legs.transferred() == 101


async def test_first_legs_fail_or_hang_on_demand_and_nothing_else_does(legs: Pair) -> None:
    asked = {"prompt": PROMPT, "max_tokens": 1, "kv_transfer_params": FIRST_LEG}
    await legs.prefill.fault("fail_prefills")
    assert await legs.prefill.post("/v1/completions", **asked) == (500, {"error": INTERNAL_ERROR})
    await legs.prefill.complete(prompt=PROMPT, max_tokens=1)

    await legs.prefill.fault("none")
    await legs.prefill.fault("hang_prefills")
    hanging = asyncio.create_task(legs.prefill.post("/v1/completions", **asked))
    await legs.prefill.complete(prompt=PROMPT, max_tokens=1)
    assert not hanging.done()
    await legs.prefill.fault("none")
    assert (await hanging)[0] == 200


async def test_transfers_from_one_replica_share_its_network() -> None:
    """Each would take 100 ms alone."""
    slow = TransferModel(bytes_per_token=1000, bandwidth_bytes_per_s=1e6, latency_s=0.0)
    async with pair(model=slow) as legs:
        prompts = [[number, *PROMPT[:99]] for number in range(2)]
        params = [await legs.first_leg(prompt=prompt) for prompt in prompts]
        both = [
            legs.decode.complete(prompt=prompt, max_tokens=1, kv_transfer_params=one)
            for prompt, one in zip(prompts, params, strict=True)
        ]
        await asyncio.gather(*both)
        assert await legs.decode.metric("vllm:nixl_xfer_time_seconds_sum") >= 0.3


async def test_replicas_without_a_connector_ignore_the_parameters(client: Client) -> None:
    answer = await client.complete(prompt=PROMPT, max_tokens=1, kv_transfer_params=FIRST_LEG)
    assert answer["kv_transfer_params"] is None
    assert client.replica.engine.kept == 0


async def test_parameters_that_name_no_place_are_ignored(legs: Pair) -> None:
    answer = await legs.decode.complete(
        prompt=PROMPT, max_tokens=1, kv_transfer_params={"do_remote_prefill": True, "remote_host": "x"}
    )
    assert answer["usage"]["completion_tokens"] == 1
    assert await legs.transferred() == 0


async def test_a_folder_does_without_parameters(tmp_path: Path) -> None:
    async with pair(storage=tmp_path / "kv") as legs:
        await legs.prefill.complete(prompt=PROMPT, max_tokens=1)
        answer = await legs.decode.complete(prompt=PROMPT, max_tokens=4)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 96
        assert await legs.transferred() == 96
        _, text = await legs.decode.get("/metrics")
        assert sample(text, "vllm:prompt_tokens_cached_by_source_total", source="external_unspecified") == 96
        assert "vllm:nixl" not in text

        longer = await legs.decode.complete(prompt=[*PROMPT, *range(300, 340)], max_tokens=1)
        assert longer["usage"]["prompt_tokens_details"]["cached_tokens"] == 96
        assert await legs.transferred() == 96
