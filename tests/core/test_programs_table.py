"""The table: one program per tenant and name, bounded, forgotten when over or idle, shown as plain data."""

import gc
import json

import pytest
from program_world import World

from router.core.programs.declare import read_declaration
from router.core.programs.describe import describe, summarise
from router.core.programs.history import History
from router.core.programs.step import Step
from router.core.programs.table import TableLimits
from router.core.types import Outcome, Request, Usage


def ids(world, tenant="t"):
    return [program.key[1] for program in world.table if program.key[0] == tenant]


def test_a_tenant_cannot_join_anothers_program():
    world = World()
    mine, theirs = world.come("a", tenant="x"), world.come("a", tenant="y")
    assert mine.program is not theirs.program
    assert len(world.table) == 2


def test_a_hundred_thousand_programs_of_one_tenant_cost_the_others_nothing():
    world = World(limits=TableLimits(max_programs=2_000))
    for number in range(500):
        world.say_nothing(f"{number}", tenant="quiet")
    for number in range(100_000):
        world.say_nothing(f"{number}", tenant="loud")
    assert len(world.table) == 2_000
    assert len(ids(world, "quiet")) == 500
    assert world.table.stats.evicted == 100_000 - 1_500


def test_large_programs_make_room_by_their_bytes():
    world = World(limits=TableLimits(max_bytes=1_000_000))
    document = {"steps": [{"name": f"s{number}"} for number in range(200)]}
    for number in range(20):
        world.say_nothing(f"{number}", tenant="quiet")
        world.table.declare(("loud", f"{number}"), read_declaration(document), 0.0)
    assert world.table.bytes <= 1_000_000
    assert len(ids(world, "quiet")) == 20
    assert 1 <= len(ids(world, "loud")) < 20


def test_what_is_told_of_an_evicted_program_goes_nowhere():
    world = World(limits=TableLimits(max_programs=1))
    step = world.come("a")
    world.come("b", program="other")
    world.end(step)
    assert ids(world) == ["other"]


def test_finished_programs_make_room_before_others():
    world = World(limits=TableLimits(max_programs=3))
    world.come("a", program="old")
    world.call("a", program="done", final=True)
    for name in ("x", "y"):
        world.come("a", program=name)
    assert ids(world) == ["old", "x", "y"]
    assert world.table.stats.evicted == 0


def test_idle_programs_are_forgotten_and_those_with_open_calls_are_not():
    world = World(limits=TableLimits(idle_s=100.0))
    world.call("a", program="idle")
    world.come("a", program="open")
    assert world.table.expire(world.now + 99.0) == 0
    assert world.table.expire(world.now + 101.0) == 1
    assert ids(world) == ["open"]
    assert world.table.stats.expired == 1


def test_a_finished_program_lingers_and_goes():
    world = World(limits=TableLimits(linger_s=60.0))
    world.call("a", final=True)
    assert summarise(world.program, world.now)["state"] == "finished"
    world.table.expire(world.now + 59.0)
    assert world.program is not None
    assert world.table.expire(world.now + 61.0) == 0
    assert world.program is None
    assert world.table.stats.finished == 1


def test_a_program_that_goes_on_after_its_end_stays():
    world = World()
    world.call("a", final=True)
    world.come("b")
    world.table.expire(world.now + 100.0)
    assert world.program is not None


def test_finish_forgets_a_program_whose_calls_go_on():
    world = World()
    step = world.come("a")
    assert world.table.finish(("t", "p"), world.now)
    assert not world.table.finish(("t", "p"), world.now)
    world.end(step)
    assert len(world.table) == 0


def test_a_request_that_belongs_to_nothing_leaves_nothing_behind():
    world = World()
    step = world.table.observe(Request("r", "m", tenant="t"), 0.0)
    assert step.program.remaining_calls == 1
    world.end(step)
    assert len(world.table) == 0
    world.say_nothing()
    assert world.program.likely_calls_left(0.9) == 0
    assert world.program.history.lengths.observations(1) == 1.0, "sessions are not judged by single requests"


def test_the_steps_of_a_long_program_make_room_for_newer_ones():
    world = World(limits=TableLimits(max_steps=50))
    for number in range(1_000):
        world.call(f"s{number}", after=(f"s{number - 1}",), remaining_steps=5)
        assert len(world.program.steps) <= 50
    assert world.program.calls == 1_000
    assert world.program.dropped_steps == world.table.stats.dropped_steps > 900
    assert world.program.level == 1_000
    assert describe(world.program, world.now)["steps"][-1]["name"] == "s999"


def test_more_open_calls_than_steps_are_kept():
    world = World(limits=TableLimits(max_steps=10))
    steps = [world.come(f"s{number}", output_tokens=100) for number in range(30)]
    assert len(world.program.steps) == 10
    assert world.program.waiting == 30
    for step in steps:
        world.end(step)
    assert world.program.open == 0
    assert world.program.known_s == 0.0
    assert world.program.calls == 30


def test_deadlines_and_priorities():
    world = World()
    world.come("a", deadline_in_s=10.0, priority=2)
    world.now = 4.0
    world.come("b", deadline_in_s=10.0)
    assert world.program.deadline_s == 10.0, "the same header with every call means the first one"
    assert world.program.priority == 2
    declaration = read_declaration({"steps": [{"name": "c"}], "deadline_ms": 60_000, "priority": 5, "class": "k"})
    program = world.table.declare(("t", "p"), declaration, world.now)
    assert (program.deadline_s, program.priority, program.kind) == (64.0, 5, "k")


def test_a_sub_agent_is_shown_with_its_parent():
    world = World()
    child = world.come("a", program="child", parent="p").program
    world.come("b", program="child")
    assert summarise(child, world.now)["parent"] == "p"


def test_what_was_attained():
    world = World()
    first = world.come("a", prompt_tokens=1000)
    world.now = 2.0
    world.end(first, tokens=50, cached=0, after_s=3.0)
    second = world.come("b", prompt_tokens=1500)
    world.table.dispatched(second, 1400, world.now)
    world.now += 1.0
    world.table.ended(second, Usage(1500, 1050, 20), Outcome.OK, world.now)
    program = world.program
    assert (program.attained_s, program.waited_s) == (4.0, 2.0)
    assert (program.computed_tokens, program.cached_tokens, program.output_tokens) == (1450, 1050, 70)
    assert program.attained_tokens == 1520
    assert program.longest_context_tokens == 1520


def test_it_is_described_as_plain_data():
    world = World()
    document = {"class": "k", "steps": [{"name": "a"}, {"name": "b", "after": ["a"], "tool_ms": 500}]}
    world.table.declare(("t", "p"), read_declaration(document), world.now)
    world.now = 1.0
    step = world.come("a")
    world.table.dispatched(step, 200, 3.0)
    world.table.started(step, 4.0)
    shown = describe(world.program, 5.0)
    assert json.loads(json.dumps(shown)) == shown
    assert shown["state"] == "running"
    assert shown["estimate"]["source"] == "declared"
    a, b = shown["steps"]
    assert (a["name"], a["state"], b["name"], b["state"], b["after"]) == ("a", "running", "b", "expected", ["a"])
    assert (a["came_s"], a["dispatched_s"], a["started_s"], a["ended_s"]) == (1.0, 3.0, 4.0, None)
    assert (a["prompt_tokens"], a["cached_tokens"], a["computed_tokens"]) == (1000, 200, 800)
    assert b["expected_wait_s"] == 0.5
    assert a["rank_s"] == pytest.approx(a["expected_s"] + 0.5 + b["expected_s"]) == shown["remaining_path_s"]


def test_a_forgotten_program_leaves_memory_at_once():
    def steps():
        return sum(isinstance(each, Step) for each in gc.get_objects())

    gc.collect()
    before = steps()
    gc.disable()
    try:
        world = World(limits=TableLimits(max_programs=10))
        for number in range(100):
            for sibling in "ab":
                world.call(sibling, program=f"{number}", join="sum", width=3, remaining_steps=2)
            world.call("sum", program=f"{number}", after=("a", "b"), remaining_steps=1)
        assert steps() - before <= 10 * 3 + 3
    finally:
        gc.enable()


def test_histories_of_classes_are_bounded_too():
    history = History(max_classes=100)
    kept = [history.of("quiet", f"{number}") for number in range(10)]
    for number in range(1_000):
        history.of("loud", f"{number}")
    assert [history.of("quiet", f"{number}") for number in range(10)] == kept


def test_ten_thousand_names_of_steps_are_few_kinds():
    world = World()
    for number in range(2_000):
        world.call(f"{'ab'[number % 2] * (number % 40 + 1)}-{number}")
    assert len(world.program.history.kinds) <= 32
    world.call("turn-1")
    assert "turn-#" in world.program.history.kinds
