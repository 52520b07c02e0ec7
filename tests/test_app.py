"""`weft serve`, whole: real sockets, simulated replicas, KV events over ZMQ."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

import sim.model
from router.app import App
from router.config import parse_config
from router.core.types import IndexState
from sim.engine import Policy, load_profile
from sim.replica.faults import Fault, FaultKind
from sim.replica.planner import Planner
from sim.replica.serving import serve_replicas
from sim.replica.settings import Settings

MODEL_DIR = Path(sim.model.__file__).parent
SPEED = 50.0


class World:
    """Replicas, the router before them and a client."""

    def __init__(self, stack):
        self._stack = stack
        self.engine = {}

    async def start(self, count=2, **config):
        profile = load_profile("laptop-demo")
        settings = Settings(engine=replace(profile.engine, **self.engine), model="m", speed=SPEED)
        self.replicas = await self._stack.enter_async_context(serve_replicas(count, settings))
        self.client = await self._stack.enter_async_context(aiohttp.ClientSession())
        await self.start_router(**config)
        return self

    async def start_router(self, **config):
        chosen = {
            "listen": "127.0.0.1:0",
            "replicas": [replica.url for replica in self.replicas],
            "models": {"*": {"tokenizer": "local", "path": str(MODEL_DIR)}},
            "engine": {"metrics_interval_s": 0.1, "health_interval_s": 0.2},
        }
        self.app = await self._stack.enter_async_context(App(parse_config(chosen | config, "test")))
        self.url = f"http://127.0.0.1:{self.app.listener.port}"
        await self.until(lambda: self.app.router.fleet.routable.sum() == len(self.replicas))

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    async def get(self, path):
        async with self.client.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def post(self, body, path="/v1/chat/completions", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(self.url + path, json=body, headers=named) as answer:
            return answer.status, answer.headers, await answer.json()

    async def chat(self, *texts, **fields):
        """(replica, cached tokens that it reports, explanation) of a chat with these user texts."""
        messages = [{"role": "user", "content": text} for text in texts]
        body = {"model": "m", "messages": messages, "max_tokens": 4} | fields
        status, headers, answer = await self.post(body, x_weft_explain="1")
        assert status == 200, answer
        told = json.loads(headers["x-weft-explain"])
        cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        return headers["x-weft-replica"], cached, told

    def index_states(self):
        return {self.app.router.fleet.index_states[slot] for slot, _ in self.app.router.fleet}


@pytest.fixture
async def world():
    async with AsyncExitStack() as stack:
        yield World(stack)


def long_text(name, words=400):
    return " ".join(f"{name}{number % 37}" for number in range(words))


async def test_the_next_turn_goes_where_the_prefix_is_and_the_prediction_is_exact(world):
    await world.start(3)
    first, cached, _ = await world.chat(long_text("a"))
    assert cached == 0
    await world.until(lambda: world.app.router.index.held_blocks_total > 0)
    world.app.router.index.expire(float("inf"))
    for turn in range(3):
        replica, cached, told = await world.chat(long_text("a"), *(long_text(f"t{n}", 30) for n in range(turn + 1)))
        predicted = next(row["cached_tokens"] for row in told["candidates"] if row["replica"] == replica)
        assert replica == first
        assert cached == predicted > 0


async def test_a_router_that_starts_late_learns_by_replay(world):
    await world.start(2)
    first, _, _ = await world.chat(long_text("a"))
    await world.start_router()
    await world.until(lambda: world.app.router.index.held_blocks_total > 0)
    replica, cached, told = await world.chat(long_text("a"), "and?")
    assert replica == first
    assert cached == max(row["cached_tokens"] for row in told["candidates"]) > 0
    assert world.index_states() == {IndexState.SYNCED}


async def test_a_replica_that_crashes_is_left_and_comes_back_empty(world):
    await world.start(2)
    first, _, _ = await world.chat(long_text("a"))
    await world.until(lambda: world.app.router.index.held_blocks_total > 0)
    crashed = next(replica for replica in world.replicas if replica.url.endswith(first))
    crashed.apply(Fault(kind=FaultKind.CRASH, down_s=0.3))
    await asyncio.sleep(0.1)
    other, cached, _ = await world.chat(long_text("a"))
    assert other != first
    assert cached == 0
    slot = world.app.router.fleet.slot(first)
    await world.until(lambda: world.app.router.fleet.routable.all() and world.app.router.index.held_blocks(slot) == 0)
    for _ in range(4):
        _, cached, told = await world.chat(long_text("b"))
        assert cached == next(row["cached_tokens"] for row in told["candidates"] if row["replica"] == told["winner"])


async def test_lost_events_are_replayed(world):
    await world.start(1)
    held = world.app.router.index.held_blocks
    await world.chat(long_text("a"))
    await world.until(lambda: held(0) > 0)
    before = held(0)
    world.replicas[0].apply(Fault(kind=FaultKind.DROP_EVENTS, batches=1))
    await world.chat(long_text("b"))
    await world.chat(long_text("c"))
    await world.until(lambda: held(0) > 2 * before)
    world.app.router.index.expire(float("inf"))
    for name in "abc":
        _, cached, told = await world.chat(long_text(name))
        assert cached == told["candidates"][0]["cached_tokens"] > 0
    assert world.index_states() == {IndexState.SYNCED}


async def test_events_lost_for_good_degrade_the_index_and_are_counted(world):
    await world.start(1)
    await world.chat(long_text("a"))
    world.replicas[0].apply(Fault(kind=FaultKind.DROP_EVENTS, batches=1, replayable=False))
    await world.chat(long_text("b"))
    await world.chat(long_text("c"))
    await world.until(lambda: IndexState.DEGRADED in world.index_states())
    status, text = await world.get("/metrics")
    assert status == 200
    assert f'weft_replica_index_state{{replica="{world.app.router.fleet.specs[0].name}",state="degraded"}} 1.0' in text


async def test_an_overloaded_replica_is_passed_over(world):
    await world.start(2)
    world.replicas[0].apply(Fault(kind=FaultKind.REFUSE))
    for number in range(6):
        replica, _, _ = await world.chat(f"question {number}")
        assert world.replicas[1].url.endswith(replica)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["some text", [1, 2, 3, 4]])
async def test_a_draining_replica_is_passed_over(world, prompt, stream):
    await world.start(2)
    world.replicas[0].apply(Fault(kind=FaultKind.DRAIN))
    body = {"model": "m", "prompt": prompt, "max_tokens": 3, "stream": stream}
    for _ in range(6):
        async with world.client.post(world.url + "/v1/completions", json=body) as answer:
            text = await answer.text()
        assert answer.status == 200
        assert '"finish_reason":"length"' in text.replace(" ", "")
        assert world.replicas[1].url.endswith(answer.headers["x-weft-replica"])


async def test_when_every_replica_refuses_the_client_is_told_when_to_come_back(world):
    await world.start(2)
    for replica in world.replicas:
        replica.apply(Fault(kind=FaultKind.REFUSE))
    status, headers, answer = await world.post({"model": "m", "messages": [{"role": "user", "content": "x"}]})
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    assert answer["error"]["message"]


async def test_a_client_that_leaves_frees_the_replica(world):
    await world.start(1)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 10_000}
    async with world.client.post(world.url + "/v1/chat/completions", json=body) as answer:
        await answer.content.readany()
        assert world.replicas[0].engine.running
    await world.until(lambda: not world.replicas[0].engine.running)
    await world.until(lambda: world.app.router.in_flight == 0)


async def test_streams_pass_through_to_the_end(world):
    await world.start(1)
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "max_tokens": 20,
        "stream_options": {"include_usage": True},
    }
    async with world.client.post(world.url + "/v1/chat/completions", json=body) as answer:
        events = (await answer.text()).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert json.loads(events[-3].removeprefix("data: "))["usage"]["completion_tokens"] == 20
    await world.until(lambda: world.app.router.in_flight == 0)


async def test_the_replicas_own_tokenizer_gives_exact_predictions_too(world):
    await world.start(2, models={})
    first, _, _ = await world.chat(long_text("a"))
    await world.until(lambda: world.app.router.index.held_blocks_total > 0)
    replica, cached, told = await world.chat(long_text("a"), "and?")
    assert replica == first
    assert cached == max(row["cached_tokens"] for row in told["candidates"]) > 0


async def test_without_a_tokenizer_own_routing_is_remembered(world):
    await world.start(4, models={"*": {"tokenizer": "text"}})
    await world.until(lambda: world.index_states() == {IndexState.SYNCED})
    first, _, _ = await world.chat(long_text("a"))
    for turn in range(5):
        replica, cached, _ = await world.chat(long_text("a"), f"turn {turn}")
        assert replica == first
        assert cached > 0


async def test_local_answers(world):
    await world.start(2)
    assert await world.get("/health") == (200, "")
    status, text = await world.get("/ready")
    assert (status, json.loads(text)["ready"]) == (200, True)
    status, text = await world.get("/v1/models")
    assert [card["id"] for card in json.loads(text)["data"]] == ["m"]
    await world.chat("x")
    status, text = await world.get("/metrics")
    assert 'weft_dispatches_total{outcome="ok"} 1.0' in text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", {"model": "gpt", "messages": []}, 404),
        ("/v1/chat/completions", {"model": 7}, 400),
        ("/v1/chat/completions", [], 400),
        ("/v1/chat/completions", {"model": "m", "messages": []}, 400),
        ("/v2/anything", {}, 404),
        ("/v1/models", {}, 405),
    ],
)
async def test_errors_have_openais_shape(world, path, body, status):
    await world.start(1)
    answered, _, answer = await world.post(body, path=path)
    assert answered == status
    if path != "/v1/models":
        assert set(answer["error"]) >= {"message", "type", "param", "code"}


async def test_a_replica_that_joins_and_leaves_by_file(world, tmp_path):
    path = tmp_path / "replicas.yaml"
    path.write_text("[]")
    await world.start(2)
    one, two = (replica.url for replica in world.replicas)
    path.write_text(f"- {one}\n- {two}\n")
    await world.start_router(replicas=[], replicas_file=str(path))
    path.write_text(f"- {one}\n")
    await world.until(lambda: len(world.app.router.fleet) == 1)
    path.write_text("- : [broken")
    await world.until(lambda: world.app.troubles.counts["replicas_file"] == 1)
    assert len(world.app.router.fleet) == 1
    replica, _, _ = await world.chat("x")
    assert one.endswith(replica)


async def test_facts_about_no_replica_at_all(world):
    await world.start(1)
    await world.app.members.stop()
    await world.until(lambda: len(world.app.router.fleet) == 0)
    status, headers, _ = await world.post({"model": "m", "messages": [{"role": "user", "content": "x"}]})
    assert status == 503
    assert "retry-after" in headers
    assert (await world.get("/ready"))[0] == 503


TEXT = {"*": {"tokenizer": "text"}}


class Stepped:
    """An order that tells the engine the program's own priority."""

    name = "stepped"

    def rank(self, waiting, now):
        return ()

    def engine_priority(self, waiting):
        return -waiting.request.program.priority if waiting.request.program else None


class Broken:
    """An order that fails."""

    name = "broken"

    def rank(self, waiting, now):
        raise RuntimeError("defect")


def full(world):
    """Lets nobody through any more."""
    world.app.router._flow.gate = Closed()


class Closed:
    name = "closed"

    def room(self, waiting, candidates, view):
        return candidates.cached_tokens < 0


async def metrics(world):
    return (await world.get("/metrics"))[1]


def one(number=0):
    return {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}], "max_tokens": 2}


async def test_requests_wait_in_a_full_router_and_leave_when_there_is_room(world):
    await world.start(1, models=TEXT)
    full(world)
    asked = asyncio.create_task(world.post(one(), x_weft_explain="1"))
    await world.until(lambda: world.app.router.waiting == 1)
    assert json.loads((await world.get("/ready"))[1])["waiting"] == 1
    assert 'weft_queue_waiting{tenant="(other)"} 1.0' in await metrics(world)
    world.app.router._flow.gate = None
    status, headers, _ = await asked
    told = json.loads(headers["x-weft-explain"])["queue"]
    assert (status, told["order"], told["rank"], told["priority"]) == (200, "fcfs", [], None)
    assert told["waited_s"] >= 0
    assert told["waited_for"] == "room"
    text = await metrics(world)
    assert "weft_queue_wait_seconds_count 1.0" in text
    assert 'weft_queue_waiting{tenant="(other)"} 0.0' in text


async def test_a_client_that_leaves_the_queue_is_counted(world):
    await world.start(1, models=TEXT)
    full(world)
    asked = asyncio.create_task(world.post(one()))
    await world.until(lambda: world.app.router.waiting == 1)
    asked.cancel()
    await world.until(lambda: world.app.router.waiting == 0)
    assert "weft_queue_withdrawn_total 1.0" in await metrics(world)


async def test_whom_an_admission_lets_in_and_whom_it_holds_is_told(world):
    await world.start(1, models=TEXT, programs={"enabled": True}, queue={"admission": "working-set"})
    await world.post(one(), x_program_id="rests")
    full(world)
    asked = [asyncio.create_task(world.post(one(1), x_program_id="waits"))]
    await world.until(lambda: world.app.router.waiting == 1)
    world.app.router.load.set_capacity(0, 16)
    asked += [asyncio.create_task(world.post(one(number), x_program_id="held")) for number in (2, 3)]
    await world.until(lambda: len(world.app.router.room.held) == 2)
    text = await metrics(world)
    replica = world.app.router.fleet.specs[0].name
    assert "weft_admission_held_requests 2.0" in text
    assert "weft_admission_held_programs 1.0" in text
    assert f'weft_admission_programs{{replica="{replica}"}} 1.0' in text
    assert f'weft_admission_resting{{replica="{replica}"}} 1.0' in text
    assert f'weft_admission_wanted_tokens{{replica="{replica}"}}' in text
    for each in asked:
        each.cancel()


async def test_a_full_queue_says_so_by_tenant_and_in_all(world):
    queue = {"max_waiting": 2, "max_waiting_per_tenant": 1}
    await world.start(1, models=TEXT, queue=queue, identity={"tenant_header": "x-tenant"}, tenants={"a": {}})
    full(world)
    asked = [asyncio.create_task(world.post(one(), x_tenant=tenant)) for tenant in "ab"]
    await world.until(lambda: world.app.router.waiting == 2)
    status, headers, answer = await world.post(one(), x_tenant="a")
    assert (status, answer["error"]["code"]) == (429, "tenant_queue_full")
    assert int(headers["retry-after"]) >= 1
    status, headers, answer = await world.post(one(), x_tenant="c")
    assert (status, answer["error"]["code"]) == (503, "queue_full")
    assert int(headers["retry-after"]) >= 1
    text = await metrics(world)
    assert 'weft_queue_waiting{tenant="a"} 1.0' in text
    assert 'weft_queue_waiting{tenant="(other)"} 1.0' in text
    assert 'weft_requests_refused_total{reason="queue_full"} 1.0' in text
    assert 'weft_requests_refused_total{reason="tenant_queue_full"} 1.0' in text
    for each in asked:
        each.cancel()


async def test_a_shutdown_ends_waiting_at_once(world):
    await world.start(1, models=TEXT)
    full(world)
    asked = asyncio.create_task(world.post(one()))
    await world.until(lambda: world.app.router.waiting == 1)
    stopping = asyncio.create_task(world.app.__aexit__(None, None, None))
    status, headers, answer = await asked
    assert (status, answer["error"]["code"]) == (503, "shutting_down")
    assert int(headers["retry-after"]) >= 1
    await stopping


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
async def test_priorities_reach_the_engine_and_strangers_priorities_do_not(world, policy):
    world.engine = {"policy": Policy(policy)}
    await world.start(1, models=TEXT, queue={"order": "test_app:Stepped"}, identity={"max_priority": 3})
    seen = []
    plan = Planner.plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Planner, "plan", lambda *_, **named: seen.append(named["priority"]) or plan(*_, **named))
        await world.post(one(), x_program_id="p", x_program_priority="9")
        await world.post(one(), x_vllm_priority="-100")
        await world.post(one() | {"priority": -100})
        await world.post(one() | {"priority": -100}, x_program_id="p", x_program_priority="-2")
    assert seen == [-3, 0, 0, 2]


async def test_malformed_hints_are_counted(world):
    await world.start(1, models=TEXT)
    await world.post(one(), x_program_id="p", x_program_priority="high")
    assert 'weft_hints_ignored_total{hint="x-program-priority' in await metrics(world)


async def test_an_order_that_fails_is_counted_and_costs_no_request(world):
    await world.start(1, models=TEXT, queue={"order": "test_app:Broken"})
    full(world)
    asked = asyncio.create_task(world.post(one()))
    await world.until(lambda: world.app.router.waiting == 1)
    world.app.router._flow.gate = None
    assert (await asked)[0] == 200
    assert 'weft_order_mishaps_total{order="broken"} 1.0' in await metrics(world)
