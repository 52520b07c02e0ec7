"""Servers that come, answer, fail, restart and leave, and what the router is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from vllm_stand_in import Publisher, Server, WatchedRouter, new_context, stored

from router.core.types import Health, IndexState, Outcome
from router.engine.discovery.address import ReplicaAddress
from router.engine.discovery.source import Addresses, StaticDiscovery
from router.engine.health import HealthSettings
from router.engine.member import EngineSettings
from router.engine.members import Members

QUICK = EngineSettings(
    metrics_interval_s=0.02,
    probe_pause_s=0.01,
    max_probe_pause_s=0.02,
    health=HealthSettings(interval_s=0.05, recheck_s=0.01, failed_requests=3, open_s=0.01),
)


class Announced:
    """A discovery whose set the test changes."""

    def __init__(self, *addresses: ReplicaAddress) -> None:
        self.changes: asyncio.Queue[Addresses] = asyncio.Queue()
        self.say(*addresses)

    def say(self, *addresses: ReplicaAddress) -> None:
        self.changes.put_nowait(addresses)

    async def watch(self) -> AsyncIterator[Addresses]:
        while True:
            yield await self.changes.get()


@dataclass
class Rig:
    router: WatchedRouter
    members: Members
    troubles: dict[str, int]


@asynccontextmanager
async def watching(*sources: object, settings: EngineSettings = QUICK) -> AsyncIterator[Rig]:
    """Afterwards nothing may be left: no replica in the router, no task, no ZMQ socket."""
    router = WatchedRouter()
    async with aiohttp.ClientSession() as session:
        context = new_context(router, session)
        async with Members(context, sources, settings) as members:  # type: ignore[arg-type]
            yield Rig(router, members, context.troubles.counts)
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("weft: ")] == []
        assert context.zmq.closed
    assert router.names == set()
    assert context.troubles.counts["defect"] == 0


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


def healthy(rig: Rig, name: str) -> Callable[[], bool]:
    return lambda: rig.router.health_of(name) is Health.HEALTHY


async def test_a_server_is_routable_once_it_has_said_what_it_is(server: Server) -> None:
    async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
        await rig.router.until(healthy(rig, server.name))
        spec = rig.router.spec(server.name)
        assert spec is not None
        assert (spec.models, spec.block_size_tokens, spec.reports_events) == (("m",), 4, False)


async def test_a_server_that_is_not_up_yet_is_starting_until_it_answers(server: Server) -> None:
    await server.stop()
    async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
        await rig.router.until(lambda: rig.router.health_of(server.name) is Health.STARTING)
        while rig.troubles["probe_failed"] < 2:
            await asyncio.sleep(0)
        await server.start()
        await rig.router.until(healthy(rig, server.name))


async def test_load_is_reported(server: Server) -> None:
    async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
        server.running = 7
        await rig.router.until(lambda: server.name in rig.router.loads and rig.router.loads[server.name].running == 7)


async def test_a_server_that_goes_and_comes_back_is_asked_again(server: Server) -> None:
    async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
        await rig.router.until(healthy(rig, server.name))
        await server.stop()
        await rig.router.until(lambda: rig.router.health_of(server.name) is Health.UNHEALTHY)
        server.models = {"data": [{"id": "other"}]}
        await server.start()
        await rig.router.until(healthy(rig, server.name))
        spec = rig.router.spec(server.name)
        assert spec is not None
        assert spec.models == ("other",)


async def test_a_restart_between_two_checks_is_seen_in_the_metrics(server: Server) -> None:
    slow_checks = EngineSettings(metrics_interval_s=0.02, health=HealthSettings(interval_s=1000.0))
    async with watching(StaticDiscovery([ReplicaAddress(server.url)]), settings=slow_checks) as rig:
        await rig.router.until(lambda: server.name in rig.router.loads)
        server.cache = 'engine="0",block_size="8",num_gpu_blocks="50"'
        server.started_s += 60.0
        await rig.router.until(lambda: getattr(rig.router.spec(server.name), "block_size_tokens", 0) == 8)
        assert ("reset", server.name) in rig.router.history, "what was remembered of the old process is void"


async def test_failed_requests_cause_a_check_at_once(server: Server) -> None:
    slow_checks = EngineSettings(health=HealthSettings(interval_s=1000.0, recheck_s=0.0))
    async with watching(StaticDiscovery([ReplicaAddress(server.url)]), settings=slow_checks) as rig:
        await rig.router.until(healthy(rig, server.name))
        await server.stop()
        rig.members.note(server.name, Outcome.FAILED)
        await rig.router.until(lambda: rig.router.health_of(server.name) is Health.UNHEALTHY)


async def test_requests_that_keep_failing_open_the_circuit(server: Server) -> None:
    async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
        await rig.router.until(healthy(rig, server.name))
        for _ in range(3):
            rig.members.note(server.name, Outcome.FAILED)
        assert rig.router.health_of(server.name) is Health.UNHEALTHY
        await rig.router.until(healthy(rig, server.name))


async def test_outcomes_of_unknown_replicas_are_ignored(server: Server) -> None:
    async with watching() as rig:
        rig.members.note("nobody:1", Outcome.FAILED)


async def test_servers_come_and_go(server: Server) -> None:
    other = Server()
    await other.start()
    source = Announced(ReplicaAddress(server.url))
    async with watching(source) as rig:
        await rig.router.until(healthy(rig, server.name))
        source.say(ReplicaAddress(server.url), ReplicaAddress(other.url))
        await rig.router.until(healthy(rig, other.name))
        source.say(ReplicaAddress(other.url))
        await rig.router.until(lambda: rig.router.names == {other.name})
        source.say(ReplicaAddress(other.url, labels={"zone": "b"}))
        await rig.router.until(lambda: getattr(rig.router.spec(other.name), "labels", None) == {"zone": "b"})
        await rig.router.until(healthy(rig, other.name))
    await other.stop()


async def test_a_server_named_twice_is_watched_once(server: Server) -> None:
    address = ReplicaAddress(server.url)
    async with watching(StaticDiscovery([address]), Announced(address)) as rig:
        await rig.router.until(healthy(rig, server.name))
        assert rig.router.names == {server.name}


async def test_one_server_that_fails_does_not_hurt_another(server: Server) -> None:
    broken = Server()
    broken.models = "nonsense"
    await broken.start()
    async with watching(StaticDiscovery([ReplicaAddress(broken.url), ReplicaAddress(server.url)])) as rig:
        await rig.router.until(healthy(rig, server.name))
        assert rig.router.health_of(broken.name) is Health.STARTING
    await broken.stop()


async def test_ranks_are_replicas_and_replace_the_server(server: Server) -> None:
    server.cache = (
        'engine="0",block_size="4",num_gpu_blocks="10"} 1.0\nvllm:cache_config_info{engine="1",num_gpu_blocks="20"'
    )
    ranks = {f"{server.name}#0", f"{server.name}#1"}
    async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
        await rig.router.until(lambda: all(rig.router.health_of(name) is Health.HEALTHY for name in ranks))
        assert rig.router.names == ranks
        for _ in range(3):
            rig.members.note(f"{server.name}#1", Outcome.FAILED)
        assert {rig.router.health_of(name) for name in ranks} == {Health.UNHEALTHY}


class TestEvents:
    async def test_fill_the_index(self, server: Server) -> None:
        publisher = Publisher()
        publisher.publish(stored(1, 2))
        server.sources = {"0": listing(publisher)}
        async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
            await rig.router.until(lambda: rig.router.held(server.name) == 2)
            await rig.router.until(lambda: rig.router.state_of(server.name) is IndexState.SYNCED)
            publisher.publish(stored(3))
            await rig.router.until(lambda: rig.router.held(server.name) == 3)
        publisher.close()

    async def test_that_cannot_be_heard_leave_the_router_to_its_own_history(self, server: Server) -> None:
        publisher = Publisher()
        publisher.pause()
        server.sources = {"0": listing(publisher)}
        async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
            await rig.router.until(healthy(rig, server.name))
            spec = rig.router.spec(server.name)
            assert spec is not None
            assert not spec.reports_events
            assert rig.router.state_of(server.name) is IndexState.NONE
            publisher.restart()
            await rig.router.until(lambda: rig.router.state_of(server.name) is IndexState.SYNCED)
            spec = rig.router.spec(server.name)
            assert spec is not None
            assert spec.reports_events

    async def test_of_a_restarted_process_begin_anew_and_it_is_asked_again(self, server: Server) -> None:
        publisher = Publisher()
        publisher.publish(stored(1, 2))
        server.sources = {"0": listing(publisher)}
        async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
            await rig.router.until(lambda: rig.router.held(server.name) == 2)
            server.cache = 'engine="0",block_size="4",num_gpu_blocks="77"'
            publisher.restart()
            publisher.publish(stored(9))
            await rig.router.until(lambda: rig.router.held(server.name) == 1)
            await rig.router.until(lambda: getattr(rig.router.spec(server.name), "capacity_blocks", 0) == 77)
        publisher.close()

    async def test_stop_when_the_server_no_longer_publishes(self, server: Server) -> None:
        publisher = Publisher()
        publisher.publish(stored(1, 2))
        server.sources = {"0": listing(publisher)}
        async with watching(StaticDiscovery([ReplicaAddress(server.url)])) as rig:
            await rig.router.until(lambda: rig.router.held(server.name) == 2 and server.name in rig.router.loads)
            server.sources = None
            server.started_s += 60.0
            await rig.router.until(lambda: rig.router.state_of(server.name) is IndexState.NONE)
            assert rig.router.held(server.name) == 0
        publisher.close()


def listing(publisher: Publisher) -> dict[str, object]:
    """The publisher's entry in ``/kv_event_sources``."""
    return {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": publisher.endpoint,
        "replay_endpoint": publisher.replay_endpoint,
    }
