"""Warm-ups as `weft serve` sends them: real sockets, simulated replicas with a small cache."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from test_app import World, long_text, metrics

from router.config import ConfigError, parse_config
from router.following import make_warm_ups
from sim.replica.faults import Fault, FaultKind

GRAPH = {"class": "trip", "steps": [{"name": "plan"}, {"name": "act", "after": ["plan"], "tool_ms": 60_000}]}
MINE = {"authorization": "Bearer mine"}


@pytest.fixture
async def world():
    async with AsyncExitStack() as stack:
        yield World(stack)


async def start(world, **warm_up):
    """No warm-up is sent before `evict`: what a slow event has not told yet may look evicted."""
    world.engine = {"num_blocks": 301, "max_model_len_tokens": 4096}
    chosen = {"enabled": True, "ahead_s": 120.0, "least_tokens": 256} | warm_up
    programs = {"enabled": True, "warm_up": chosen}
    watch = {"metrics_interval_s": 0.1, "health_interval_s": 60.0}  # who hangs is not to be found out
    await world.start(1, programs=programs, router={"predicted_ttl_s": 0.1}, engine=watch)
    assert (await world.client.put(f"{world.url}/v1/programs/p", json=GRAPH, headers=MINE)).status == 201
    if chosen["enabled"]:
        world.limits = warm_ups(world).limits
        warm_ups(world).limits = replace(world.limits, max_in_flight=0)


async def ask(world, *texts, **headers):
    messages = [{"role": "user", "content": text} for text in texts]
    body = {"model": "m", "messages": messages, "max_tokens": 4}
    status, _, answer = await world.post(body, **({"authorization": "Bearer mine"} | headers))
    assert status == 200, answer
    return answer["usage"]


async def fill(world):
    """Others' prompts take the place of all that is cached."""
    for name in "xyz":
        await ask(world, long_text(name, 1000), authorization="Bearer others")


async def evict(world, fault=FaultKind.NONE):
    """The same, and then a fault. From here on warm-ups may be sent."""
    await fill(world)
    load = world.app.router.load
    await world.until(lambda: not (load.foreign_running + load.foreign_queued).any())
    world.replicas[0].apply(Fault(kind=fault))
    warm_ups(world).limits = world.limits


def plan(world):
    return ask(world, long_text("a", 1000), x_program_id="p", x_program_step="plan")


def act(world):
    return ask(world, long_text("a", 1000), "and?", x_program_id="p", x_program_step="act")


def warm_ups(world):
    return world.app.router._flow.watchers[0]


async def test_the_next_call_finds_its_prefix_that_others_had_pushed_out(world):
    await start(world)
    prompt_tokens = (await plan(world))["prompt_tokens"]
    await evict(world)
    stats = warm_ups(world).stats
    await world.until(lambda: stats.computed_tokens > 0)
    found = (await act(world))["prompt_tokens_details"]["cached_tokens"]
    assert found > 0.9 * prompt_tokens
    text = await metrics(world)
    assert "weft_warm_ups_sent_total 1.0" in text
    assert 'weft_warm_ups_settled_total{result="used"} 1.0' in text
    assert f"weft_warm_up_gained_tokens_total {stats.gained_tokens}.0" in text
    assert 0 < stats.gained_tokens <= stats.computed_tokens <= prompt_tokens
    assert world.app.router.in_flight == 0


async def test_without_it_the_next_call_computes_all_again(world):
    await start(world, enabled=False)
    await plan(world)
    await fill(world)
    assert (await act(world))["prompt_tokens_details"]["cached_tokens"] < 100
    assert "weft_warm_up" not in await metrics(world)


async def test_a_warm_up_is_cancelled_when_its_program_comes_first(world):
    await start(world)
    await plan(world)
    await evict(world, FaultKind.HANG)
    replica = world.replicas[0]
    stats = warm_ups(world).stats
    await world.until(lambda: stats.sent == 1 and replica.engine.requests)
    back = asyncio.create_task(act(world))
    await world.until(lambda: stats.cut_short == 1 and not world.app.warming._tasks)
    await world.until(lambda: len(replica.engine.requests) == 1)
    replica.apply(Fault(kind=FaultKind.NONE))
    await back
    assert warm_ups(world).stats.results["late"] == 1
    await world.until(lambda: world.app.router.in_flight == 0)


async def test_what_the_replica_refuses_is_counted_and_not_sent_again(world):
    await start(world)
    await plan(world)
    await evict(world, FaultKind.REFUSE)
    stats = warm_ups(world).stats
    await world.until(lambda: stats.results["failed"] == 1)
    assert (stats.sent, len(warm_ups(world).kept), world.app.router.in_flight) == (1, 0, 0)


async def test_the_router_stops_with_a_warm_up_under_way(world):
    await start(world)
    await plan(world)
    await evict(world, FaultKind.HANG)
    await world.until(lambda: warm_ups(world).stats.sent == 1)
    await asyncio.wait_for(world.app.warming.close(), 5)
    assert world.app.router.in_flight == 0


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            {"programs": {"warm_up": {"enabled": True}}},
            r"programs\.warm_up\.enabled: needs `programs: {enabled: true}`",
        ),
        (
            {"programs": {"enabled": True, "warm_up": {"enabled": True}}, "listen": "none"},
            r"programs\.warm_up\.enabled: needs calls that come through the proxy",
        ),
        ({"programs": {"warm_up": {"ahead_s": 0}}}, r"programs\.warm_up\.ahead_s: Input should be greater than 0"),
        ({"programs": {"warm_up": {"soon_s": 1}}}, r"programs\.warm_up\.soon_s: unknown key; allowed here: .*ahead_s"),
    ],
)
def test_what_is_wrong_is_named(asked, told):
    with pytest.raises(ConfigError, match="weft.yaml: " + told):
        make_warm_ups(parse_config(asked, "weft.yaml"))


def test_it_is_off_unless_it_is_asked_for():
    assert make_warm_ups(parse_config({"programs": {"enabled": True}}, "weft.yaml")) is None
