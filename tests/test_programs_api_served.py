"""`/v1/programs` as `weft serve` serves it, beside the calls that go to replicas."""

import json
from contextlib import AsyncExitStack

import pytest
from test_app import TEXT, World, metrics, one

GRAPH = {"class": "trip", "steps": [{"name": "plan"}, {"name": "book", "after": ["plan"]}]}


@pytest.fixture
async def world():
    async with AsyncExitStack() as stack:
        yield World(stack)


async def ask(world, method, path, body=None, key="mine"):
    headers = {"authorization": f"Bearer {key}"}
    async with world.client.request(method, world.url + path, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


def call(world, **headers):
    return world.post(one(), authorization="Bearer mine", x_program_id="p", **headers)


async def test_a_declared_program_is_followed_and_explained(world):
    await world.start(1, models=TEXT, programs={"enabled": True})
    assert (await ask(world, "PUT", "/v1/programs/p", GRAPH))[0] == 201
    _, headers, _ = await call(world, x_program_step="plan", x_weft_explain="1")
    told = json.loads(headers["x-weft-explain"])["program"]
    assert (told["id"], told["class"], told["step"], told["call"], told["estimate"]) == (
        "p",
        "trip",
        "plan",
        1,
        "declared",
    )
    assert told["remaining_path_s"] >= told["path_s"] > 0
    _, program = await ask(world, "GET", "/v1/programs/p")
    assert [(step["name"], step["state"]) for step in program["steps"]] == [("plan", "done"), ("book", "expected")]
    assert (await ask(world, "GET", "/v1/programs", key="another"))[1]["data"] == []
    assert (await ask(world, "GET", "/v1/programs"))[1]["data"][0]["id"] == "p"


async def test_what_a_path_cannot_be_asked_with_is_a_405_that_says_what_it_can(world):
    await world.start(1, models=TEXT, programs={"enabled": True})
    for path in ("/v1/programs", "/v1/programs/p", "/v1/programs/p/q"):
        async with world.client.post(world.url + path, json=GRAPH) as answer:
            assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, PUT")
    assert (await ask(world, "POST", "/v1/programs-of-mine"))[0] != 405


async def test_past_a_budget_a_call_is_a_429_with_the_figures(world):
    await world.start(1, models=TEXT, programs={"enabled": True, "budget": {"max_calls": 2}, "repeat_limit": 1})
    assert [(await call(world))[0] for _ in range(2)] == [200, 200]
    status, _, answer = await call(world)
    assert (status, answer["error"]["code"]) == (429, "program_budget_exceeded")
    assert "may have 2 calls" in answer["error"]["message"]
    assert 'weft_requests_refused_total{reason="program_budget_exceeded"} 1.0' in await metrics(world)


async def test_a_loop_is_a_429(world):
    await world.start(1, models=TEXT, programs={"enabled": True, "repeat_limit": 1})
    assert [(await call(world))[0] for _ in range(2)] == [200, 200]
    status, _, answer = await call(world)
    assert (status, answer["error"]["code"]) == (429, "program_loop")


async def test_programs_are_counted(world):
    await world.start(
        1,
        models=TEXT,
        programs={"enabled": True},
        identity={"tenant_header": "x-tenant"},
        tenants={"gold": {}},
    )
    await world.post(one(), x_tenant="gold", x_program_id="p", x_program_class="trip")
    async with world.client.delete(world.url + "/v1/programs/p", headers={"x-tenant": "gold"}) as answer:
        assert answer.status == 200
    await world.post(one(1))
    text = await metrics(world)
    assert 'weft_program_completion_seconds_count{class="trip"} 1.0' in text
    assert "weft_program_expected_ratio_count 1.0" in text
    assert 'weft_program_events_total{event="finished"} 1.0' in text
    assert 'weft_lineage_prompts_total{relation="new"} 1.0' in text
    gold, others = (line for line in text.splitlines() if line.startswith("weft_tenant_computed_tokens_total{"))
    assert gold.startswith('weft_tenant_computed_tokens_total{tenant="gold"} ')
    assert others.startswith('weft_tenant_computed_tokens_total{tenant="(other)"} ')


async def test_a_router_that_follows_no_programs_says_so(world):
    await world.start(1, models=TEXT, programs={"enabled": False})
    assert (await ask(world, "GET", "/v1/programs"))[1]["error"]["code"] == "programs_disabled"
    _, headers, _ = await call(world, x_weft_explain="1")
    assert json.loads(headers["x-weft-explain"])["program"] is None
    assert "weft_programs" not in await metrics(world)
