"""Prompts computed on one replica and answered by another: Weft names both, and a sidecar has the two talk.

The sidecar here does what llm-d's does with ``--kv-connector=nixlv2``; the replicas are simulated.
"""

import re
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from envoy_rig import PATIENCE_S, WAYS, Pool, weft

from sim.engine import TransferModel, load_profile
from sim.replica.serving import serve_replicas
from sim.replica.settings import KvTransfer, Settings

LONG = "The shuttle carries the weft across the warp. " * 40
PREFILLER = "x-prefiller-host-port"
KEEP = {"do_remote_decode": True, "do_remote_prefill": False} | dict.fromkeys(
    ("remote_engine_id", "remote_block_ids", "remote_host", "remote_port")
)


class Sidecar:
    """Stands before a decode replica."""

    def __init__(self, decode, client):
        self._decode = decode
        self._client = client
        self.told = []
        """The header of each request, oldest first."""
        self.url = ""

    @asynccontextmanager
    async def serving(self):
        application = web.Application()
        application.router.add_post("/v1/{path:.*}", self._split)
        application.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    async def _pass_on(self, request):
        async with self._client.request(request.method, self._decode.url + request.path_qs) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    async def _split(self, request):
        prefiller, body = request.headers.get(PREFILLER), await request.json()
        assert prefiller == request.headers.get("x-llm-d-prefiller-host-port")
        self.told.append(prefiller)
        if prefiller is not None:
            first = body | {"max_tokens": 1, "stream": False, "kv_transfer_params": KEEP}
            async with self._client.post(f"http://{prefiller}{request.path}", json=first) as answer:
                body["kv_transfer_params"] = (await answer.json())["kv_transfer_params"]
        async with self._client.post(self._decode.url + request.path, json=body) as answer:
            passed = web.StreamResponse(status=answer.status, headers={"content-type": answer.headers["content-type"]})
            await passed.prepare(request)
            async for chunk in answer.content.iter_any():
                await passed.write(chunk)
            return passed


async def prompt_tokens(client, replica, source):
    """That the replica got in this way."""
    async with client.get(f"{replica.url}/metrics") as answer:
        text = await answer.text()
    pattern = rf'^vllm:prompt_tokens_by_source_total{{.*source="{source}".*}} (\S+)$'
    return float(re.search(pattern, text, re.MULTILINE)[1])


@asynccontextmanager
async def world(envoy, **config):
    """A prefill and a decode replica, and the sidecar of the latter."""
    profile = load_profile("laptop-demo")
    transfer = KvTransfer(TransferModel(1000))
    settings = Settings(profile.engine, model="m", kv_events_port=None, speed=50.0, kv_transfer=transfer)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        serve_replicas(0, settings, prefill=1, decode=1) as (prefill, decode),
        Sidecar(decode, client).serving() as sidecar,
        weft(
            envoy,
            [prefill, sidecar],
            replicas=[f"{prefill.url},role=prefill", f"{sidecar.url},role=decode"],
            **config,
        ) as app,
    ):
        yield Pool(envoy, app, [prefill, decode], client), sidecar


@pytest.mark.parametrize("way", [*WAYS, "anywhere"])
async def test_a_prompt_is_computed_where_the_sidecar_is_told_to_ask(envoy, way):
    async with world(envoy, disaggregation={"rule": "always"}) as (pool, sidecar):
        prefill, decode = pool.replicas
        theirs = {PREFILLER: "192.0.2.1:80"}
        said = await pool.chat(LONG, way, theirs, max_tokens=8)
        assert said.status == 200
        assert said.body["usage"]["completion_tokens"] == 8
        assert sidecar.told == [prefill.url.removeprefix("http://")]
        assert said.replica == sidecar.url.removeprefix("http://")
        tokens = said.body["usage"]["prompt_tokens"]
        assert await prompt_tokens(pool.client, prefill, "local_compute") == tokens
        assert await prompt_tokens(pool.client, decode, "external_kv_transfer") == tokens
        async with pool.stream(LONG + "and back", way, max_tokens=8) as answer:
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        assert len(sidecar.told) == 2
        await pool.idle()


async def test_a_prompt_that_may_as_well_be_computed_where_it_is_answered_has_one_leg(envoy):
    async with world(envoy) as (pool, sidecar):
        _, decode = pool.replicas
        assert (await pool.chat("hello", headers={PREFILLER: "192.0.2.1:80"})).status == 200
        assert sidecar.told == [None]
        assert await prompt_tokens(pool.client, decode, "local_compute") > 0
        await pool.idle()
