"""Asking a server what it is, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from vllm_stand_in import Server

from router.engine.discovery.address import ReplicaAddress
from router.engine.http import FetchError, Limits, RefusedError, fetch
from router.engine.identity import Cache, Publisher
from router.engine.probe import ProbeError, ask_caches, ask_publishers, probe, read_caches

RECORDED = Path(__file__).parents[3] / "shared" / "vllm" / "vllm_metrics.txt"

VLLM_0_32_SOURCES = {
    "0": {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": "tcp://*:5557",
        "replay_endpoint": "tcp://*:6557",
        "buffer_steps": 10000,
        "hwm": 100000,
        "max_queue_size": 100000,
        "topic": "kv@replica0@tiny",
    }
}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_server_of_vllm_0_32(server: Server, session: aiohttp.ClientSession) -> None:
    server.sources = VLLM_0_32_SOURCES
    identity = await probe(session, ReplicaAddress(server.url))
    (rank,) = identity.ranks
    assert (rank.spec.name, rank.spec.models, rank.spec.adapters) == (server.name, ("m",), ("sql",))
    assert (rank.spec.block_size_tokens, rank.spec.capacity_blocks, rank.spec.max_model_len_tokens) == (4, 100, 8192)
    assert rank.events == ("tcp://127.0.0.1:5557", "tcp://127.0.0.1:6557")
    assert identity.notes == ()


async def test_an_older_server_lists_no_publishers(server: Server, session: aiohttp.ClientSession) -> None:
    (rank,) = (await probe(session, ReplicaAddress(server.url))).ranks
    assert rank.events is None


@pytest.mark.parametrize(
    "sources",
    [
        "",
        "not json",
        [],
        {},
        {"x": {}},
        {"0": None},
        {"0": {"enable_kv_cache_events": False, "publisher": "zmq", "endpoint": "tcp://*:1"}},
        {"0": {"enable_kv_cache_events": True, "publisher": "null", "endpoint": "tcp://*:1"}},
        {"0": {"enable_kv_cache_events": "yes"}},
        {"-1": {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": "tcp://*:1"}},
    ],
)
async def test_publishers_that_do_not_publish(server: Server, session: aiohttp.ClientSession, sources: object) -> None:
    server.sources = sources
    assert await ask_publishers(session, server.url) == {}


async def test_publishers_by_rank(server: Server, session: aiohttp.ClientSession) -> None:
    entry = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": "tcp://*:5558", "replay_endpoint": None}
    server.sources = {"1": entry}
    assert await ask_publishers(session, server.url) == {1: Publisher("tcp://*:5558")}


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (None, "answered 404"),
        ("", "is not a list of models"),
        ("{}", "is not a list of models"),
        ('{"data": [{"id": 5}]}', "is not a list of models"),
        ("\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), "is not a list of models"),
        ({"data": []}, "names no model"),
        ({"data": [{"id": "sql", "parent": "m"}]}, "names no model"),
    ],
)
async def test_a_server_without_models_is_refused(
    server: Server, session: aiohttp.ClientSession, models: object, message: str
) -> None:
    server.models = models
    with pytest.raises(ProbeError) as caught:
        await probe(session, ReplicaAddress(server.url))
    assert message in str(caught.value)
    assert server.url in str(caught.value)


async def test_a_server_that_wants_a_key_says_so(server: Server, session: aiohttp.ClientSession) -> None:
    server.models_status = 401
    with pytest.raises(ProbeError, match="answered 401, expected 200; it wants an API key"):
        await probe(session, ReplicaAddress(server.url))


async def test_metrics_are_not_needed(server: Server, session: aiohttp.ClientSession) -> None:
    server.cache = 'engine="0",block_size="None",num_gpu_blocks="None"'
    identity = await probe(session, ReplicaAddress(server.url))
    assert identity.ranks[0].spec.block_size_tokens == 16
    assert "block size unknown" in identity.notes[0]


async def test_broken_metrics_say_nothing(server: Server, session: aiohttp.ClientSession) -> None:
    server.cache = '"'
    assert await ask_caches(session, server.url) == {0: Cache()}
    server.cache = "\n"
    assert await ask_caches(session, server.url) == {}


async def test_nobody_there(server: Server, session: aiohttp.ClientSession) -> None:
    await server.stop()
    with pytest.raises(ProbeError, match="connection refused"):
        await probe(session, ReplicaAddress(server.url))


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded metrics of a real vLLM are not at hand")
def test_caches_of_a_real_vllm() -> None:
    assert read_caches(RECORDED.read_bytes()) == {0: Cache(32, 64)}


class TestFetch:
    async def test_an_answer_that_is_too_large(self, server: Server, session: aiohttp.ClientSession) -> None:
        with pytest.raises(FetchError, match="more than 10 bytes"):
            await fetch(session, f"{server.url}/metrics", Limits(size_bytes=10))

    async def test_an_answer_that_does_not_come(self, server: Server, session: aiohttp.ClientSession) -> None:
        server.hangs = True
        with pytest.raises(FetchError, match=r"took longer than 0\.01 s"):
            await fetch(session, f"{server.url}/health", Limits(timeout_s=0.01))

    async def test_nobody_listens(self, server: Server, session: aiohttp.ClientSession) -> None:
        await server.stop()
        with pytest.raises(RefusedError, match="connection refused"):
            await fetch(session, f"{server.url}/health", Limits())

    async def test_another_status(self, server: Server, session: aiohttp.ClientSession) -> None:
        server.health = 503
        with pytest.raises(FetchError, match="answered 503") as caught:
            await fetch(session, f"{server.url}/health", Limits())
        assert caught.value.status == 503
