"""The demo's agents against a small real server: in which order they call, what prompts hold, which hints arrive."""

import asyncio

import aiohttp
import pytest
from demo_world import Server, serving

from router.hints.reader import HintReader
from sim.demo.agents import run_programs
from sim.demo.client import Client
from sim.demo.workload import Program, Stage, Turn


@pytest.fixture
async def server():
    return Server()


@pytest.fixture
async def client(server):
    async with serving(server) as url, aiohttp.ClientSession() as http:
        yield Client(http, url, "tiny")


def program(*stages, name="react-0"):
    return Program("react", name, 0.0, "Be brief.", (), stages)


async def ran(client, *programs):
    """Calls and times of complete programs."""
    calls, programs_s = [], []
    async with asyncio.timeout(10):
        await run_programs(client, programs, calls.append, programs_s.append)
    return calls, programs_s


ONE, TWO = Stage((Turn("one", 2),), name="look"), Stage((Turn("two", 2),), name="act")
BRANCHES = Stage((Turn("left", 2), Turn("right", 2)), best=1, name="explore")
EVALUATION = Stage((Turn("evaluate", 2),), name="evaluate", remaining=0)


async def test_the_context_grows_by_each_answer(client, server):
    await ran(client, program(ONE, TWO))
    assert server.bodies[1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "two"},
    ]


async def test_branches_are_sent_at_once_and_the_best_goes_on(client, server):
    server.awaited = 2
    calls, _ = await ran(client, program(BRANCHES, EVALUATION))
    assert len(calls) == 3
    contents = [[message["content"] for message in body["messages"]] for body in server.bodies]
    assert sorted(contents[:2]) == [["Be brief.", "left"], ["Be brief.", "right"]]
    assert contents[2] == ["Be brief.", "right", "Hello", "evaluate"]


async def test_programs_run_side_by_side(client, server):
    server.awaited = 3
    calls, programs_s = await ran(client, *(program(ONE, name=f"react-{number}") for number in range(3)))
    assert len(calls) == len(programs_s) == 3


async def test_what_a_program_sent_before_is_known_of_each_call(client):
    calls, _ = await ran(client, program(ONE, BRANCHES, EVALUATION))
    assert [call.sent_tokens for call in calls] == [0, 40, 40, 40]


async def test_a_program_ends_with_its_first_failed_call_and_is_not_complete(client, server):
    server.status = 500
    calls, programs_s = await ran(client, program(ONE, TWO))
    assert len(calls) == len(server.bodies) == 1
    assert programs_s == []


async def test_a_program_that_is_answered_to_its_end_is_timed(client):
    _, [took_s] = await ran(client, program(ONE, Stage((Turn("two", 2),), wait_s=0.05)))
    assert took_s >= 0.05


async def test_what_agents_say_of_themselves_is_what_the_router_reads(client, server):
    await ran(client, program(ONE, BRANCHES, EVALUATION, name="react-7"))
    hints = [HintReader().read(headers).program for headers in server.headers]
    assert {(hint.id, hint.kind) for hint in hints} == {("react-7", "react")}
    said = {(hint.step, hint.after, hint.join, hint.width, hint.remaining_steps, hint.final) for hint in hints}
    assert said == {
        ("look", (), "", 0, None, False),
        ("explore", ("look",), "evaluate", 2, None, False),
        ("explore-2", ("look",), "evaluate", 2, None, False),
        ("evaluate", ("explore", "explore-2"), "", 0, 0, True),
    }
