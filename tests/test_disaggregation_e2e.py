"""`weft serve` before replicas that prefill and others that decode: the answers are those of one replica alone."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress

import aiohttp
import pytest
from test_app import World, long_text

from router.core.types import Role
from sim.engine import TransferModel, load_profile
from sim.replica.faults import Fault, FaultKind
from sim.replica.serving import serve_replicas
from sim.replica.settings import KvTransfer, Settings

TRANSFERS = TransferModel(bytes_per_token=1000, bandwidth_bytes_per_s=1e9, latency_s=0.001)
PROMPT = long_text("a")
BODIES = {
    "/v1/completions": {"model": "m", "prompt": PROMPT, "max_tokens": 12, "seed": 1},
    "/v1/chat/completions": {
        "model": "m",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_completion_tokens": 12,
    },
}


class Pools(World):
    """Replicas of either role, and the router before them."""

    async def open(self, prefill=1, decode=1, storage=None, connector="nixl", speed=50.0, **config):
        transfer = KvTransfer(TRANSFERS, storage=storage)
        settings = Settings(engine=load_profile("laptop-demo").engine, model="m", speed=speed, kv_transfer=transfer)
        serving = serve_replicas(0, settings, prefill=prefill, decode=decode)
        self.replicas = await self._stack.enter_async_context(serving)
        self.prefills = [replica for replica in self.replicas if replica.settings.role is Role.PREFILL]
        self.decodes = [replica for replica in self.replicas if replica.settings.role is Role.DECODE]
        self.client = await self._stack.enter_async_context(aiohttp.ClientSession())
        addresses = [f"{replica.url},role={replica.settings.role}" for replica in self.replicas]
        disaggregation = {"rule": "always", "connector": connector}
        await self.start_router(**{"replicas": addresses, "disaggregation": disaggregation, **config})
        return self

    async def alone(self, path, body):
        """What a decode replica that computes the prompt itself answers."""
        async with self.client.post(self.decodes[0].url + path, json=body) as answer:
            return await answer.json()

    async def stream(self, path, body):
        """The events of an answer."""
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        async with self.client.post(self.url + path, json=body) as answer:
            assert answer.status == 200
            events = [line[6:] for line in (await answer.text()).split("\n\n") if line]
        assert events.pop() == "[DONE]"
        return [json.loads(event) for event in events]

    async def crash(self, replica):
        """Returns when nobody is there any more; the router has to find out."""
        replica.apply(Fault(kind=FaultKind.CRASH, down_s=30.0))
        host, port = replica.url.removeprefix("http://").split(":")
        async with asyncio.timeout(10):
            with suppress(OSError):
                while True:
                    (await asyncio.open_connection(host, port))[1].close()

    async def sample(self, name):
        """The value of a metric of the router."""
        _, text = await self.get("/metrics")
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(line.rpartition(" ")[2])

    @property
    def stats(self):
        return self.app.proxy.stats

    @property
    def kept(self):
        """Requests whose blocks prefill replicas keep for others."""
        return sum(replica.engine.kept for replica in self.prefills)


@pytest.fixture
async def pools():
    async with AsyncExitStack() as stack:
        yield Pools(stack)


def text_of(answer):
    choice = answer["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


@pytest.mark.parametrize("path", BODIES)
async def test_the_text_is_that_of_one_replica_alone(pools, path):
    await pools.open()
    _, headers, answer = await pools.post(BODIES[path], path)
    assert headers["x-weft-replica"] == pools.decodes[0].url.removeprefix("http://")
    assert pools.stats.prefill_legs == {"ok": 1}
    alone = await pools.alone(path, BODIES[path])
    assert text_of(answer) == text_of(alone)
    assert answer["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"]
    assert answer["usage"]["completion_tokens"] == alone["usage"]["completion_tokens"] == 12
    assert pools.kept == 0


async def test_a_stream_is_one_stream_with_one_usage(pools):
    await pools.open()
    path = "/v1/completions"
    for cached in (False, True):
        events = await pools.stream(path, BODIES[path])
        usages = [event["usage"] for event in events if event.get("usage")]
        text = "".join(choice["text"] for event in events for choice in event["choices"])
        assert len(usages) == 1
        assert (usages[0]["prompt_tokens_details"]["cached_tokens"] > 0) == cached
    alone = await pools.alone(path, BODIES[path])
    assert text == text_of(alone)
    assert usages[0]["prompt_tokens"] == alone["usage"]["prompt_tokens"]


async def test_the_client_is_told_what_the_prefill_replica_had(pools):
    await pools.open()
    body = BODIES["/v1/completions"]
    first, again = [(await pools.post(body, "/v1/completions"))[2]["usage"] for _ in range(2)]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert 0 < again["prompt_tokens_details"]["cached_tokens"] < again["prompt_tokens"]


async def test_an_answer_names_both_replicas(pools):
    await pools.open()
    async with pools.client.post(pools.url + "/v1/completions", json=BODIES["/v1/completions"]) as answer:
        assert answer.headers["x-weft-prefill-replica"] == pools.prefills[0].url.removeprefix("http://")
        assert answer.headers["x-weft-replica"] == pools.decodes[0].url.removeprefix("http://")


async def test_many_at_once_over_two_pools(pools):
    await pools.open(prefill=2, decode=2)
    bodies = [{"model": "m", "prompt": long_text(f"w{number}"), "max_tokens": 6} for number in range(16)]
    answers = await asyncio.gather(*[pools.post(body, "/v1/completions") for body in bodies])
    assert {status for status, _, _ in answers} == {200}
    assert pools.stats.prefill_legs == {"ok": 16}
    for (_, _, answer), body in zip(answers[:4], bodies, strict=False):
        assert text_of(answer) == text_of(await pools.alone("/v1/completions", body))
    assert pools.kept == 0


async def test_through_a_shared_store(pools, tmp_path):
    await pools.open(storage=tmp_path, connector="shared-storage")
    path = "/v1/completions"
    _, _, answer = await pools.post(BODIES[path], path)
    assert pools.stats.prefill_legs == {"ok": 1}
    assert text_of(answer) == text_of(await pools.alone(path, BODIES[path]))


async def test_a_request_that_cannot_be_split_stays_in_one_piece(pools):
    await pools.open()
    path = "/v1/completions"
    body = BODIES[path] | {"prompt_logprobs": 0}
    _, _, answer = await pools.post(body, path)
    assert text_of(answer) == text_of(await pools.alone(path, body))
    assert pools.stats.prefill_legs == {}
    assert await pools.sample('weft_pd_served_whole_total{reason="one_piece"}') == 1.0


async def test_a_client_may_not_say_itself_where_blocks_are(pools):
    await pools.open()
    body = BODIES["/v1/completions"] | {"kv_transfer_params": {"do_remote_prefill": True}}
    async with pools.client.post(pools.url + "/v1/completions", json=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "kv_transfer_params"


async def test_a_prompt_that_is_too_long_for_both_is_refused_by_the_decode_replica(pools):
    await pools.open()
    body = BODIES["/v1/completions"] | {"prompt": list(range(100, 100 + 20_000))}
    status, headers, answer = await pools.post(body, "/v1/completions")
    assert status == 400
    assert headers["x-weft-replica"] == pools.decodes[0].url.removeprefix("http://")
    assert answer["error"]["code"] == 400
    assert pools.stats.served_whole == {"prefill_refused": 1}


async def test_a_prefill_replica_that_fails_is_replaced(pools):
    await pools.open(prefill=2)
    path = "/v1/completions"
    pools.prefills[0].apply(Fault(kind=FaultKind.FAIL_PREFILLS))
    pools.prefills[1].apply(Fault(kind=FaultKind.FAIL_PREFILLS))
    _, _, answer = await pools.post(BODIES[path], path)
    assert text_of(answer) == text_of(await pools.alone(path, BODIES[path]))
    assert pools.stats.prefill_legs == {"failed": 2}
    assert pools.stats.served_whole == {"prefill_failed": 1}
    pools.prefills[0].apply(Fault(kind=FaultKind.NONE))
    assert (await pools.post(BODIES[path], path))[0] == 200
    assert pools.stats.prefill_legs["ok"] == 1


async def test_prefill_replicas_that_hang_are_not_waited_for(pools):
    await pools.open(prefill=1, limits={"prefill_timeout_s": 0.3})
    pools.prefills[0].apply(Fault(kind=FaultKind.HANG_PREFILLS))
    assert (await pools.post(BODIES["/v1/completions"], "/v1/completions"))[0] == 200
    assert pools.stats.prefill_legs == {"timeout": 1}
    await pools.until(lambda: pools.kept == 0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_decode_replica_that_cannot_fetch_computes_the_prompt_itself(pools, streamed):
    await pools.open()
    pools.decodes[0].apply(Fault(kind=FaultKind.FAIL_TRANSFERS))
    path = "/v1/completions"
    if streamed:
        events = await pools.stream(path, BODIES[path])
        text = "".join(choice["text"] for event in events for choice in event["choices"])
    else:
        text = text_of((await pools.post(BODIES[path], path))[2])
    assert text == text_of(await pools.alone(path, BODIES[path]))
    assert pools.stats.served_whole == {"decode_failed": 1}
    assert pools.stats.tries == {"ok": 1}


async def test_a_prefill_pool_that_is_gone_is_not_missed(pools):
    await pools.open(prefill=1, decode=2)
    await pools.crash(pools.prefills[0])
    bodies = [{"model": "m", "prompt": long_text(f"w{number}"), "max_tokens": 6} for number in range(8)]
    answers = await asyncio.gather(*[pools.post(body, "/v1/completions") for body in bodies])
    assert {status for status, _, _ in answers} == {200}
    await pools.until(lambda: pools.app.router.fleet.routable.sum() == 2)
    assert (await pools.post(bodies[0], "/v1/completions"))[0] == 200
    assert await pools.sample('weft_pd_fallbacks_total{reason="no_prefill_replica"}') >= 1.0


async def test_a_decode_replica_that_dies_is_replaced(pools):
    await pools.open(decode=2)
    await pools.crash(pools.decodes[0])
    path = "/v1/completions"
    answers = await asyncio.gather(*[pools.post(BODIES[path], path) for _ in range(6)])
    assert {status for status, _, _ in answers} == {200}
    async with pools.client.post(pools.decodes[1].url + path, json=BODIES[path]) as answer:
        alone = await answer.json()
    assert {text_of(answer) for _, _, answer in answers} == {text_of(alone)}


async def test_a_client_that_leaves_in_the_prefill_leg_leaves_nothing_behind(pools):
    await pools.open(speed=0.5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await pools.post(BODIES["/v1/completions"], "/v1/completions")
    await pools.until(lambda: pools.stats.clients_gone == 1 and pools.kept == 0)
    assert pools.stats.stranded == 0
