"""What is counted of programs when they are over."""

import pytest
from program_world import World

from router.core.programs.table import SINGLE, TableLimits
from router.core.programs.tally import MAX_CLASSES, OTHERS
from router.core.types import Request


def counts(world):
    return {kind: count(histogram) for kind, histogram in world.table.tally.completion_s.items()}


def count(histogram):
    return list(histogram.cumulative())[-1][1]


def over(world, program, kind="c"):
    world.call(program=program, kind=kind)
    world.table.finish(("t", program), world.now)


def test_completion_is_from_the_first_call_to_the_end_of_the_last():
    world = World()
    world.call()
    world.now += 10
    world.end(world.come(), after_s=3.0)
    world.now += 100
    world.table.finish(("t", "p"), world.now)
    assert world.table.tally.completion_s[""].total == 14.0


def test_a_final_call_counts_when_the_program_is_forgotten_and_only_once():
    world = World()
    world.call(final=True)
    world.call(final=True)
    assert counts(world) == {}
    world.now += world.table.limits.linger_s
    world.table.expire(world.now)
    world.table.expire(world.now)
    assert counts(world) == {"": 1}


def test_idle_programs_count_and_evicted_ones_do_not():
    world = World(limits=TableLimits(max_programs=2, idle_s=60.0))
    for name in "abc":
        world.call(program=name)
    world.now += 60
    world.table.expire(world.now)
    assert counts(world) == {"": 2}


def test_single_requests_and_programs_without_a_call_do_not_count():
    world = World()
    step = world.table.observe(Request("r", "m"), world.now)
    assert step.program.kind == SINGLE
    world.end(step)
    world.table.finish(("t", "nobody"), world.now)
    assert counts(world) == {}


def test_strangers_classes_make_no_more_than_so_many_series():
    world = World()
    for number in range(100):
        over(world, f"p{number}", kind=f"class {number}")
    over(world, "again", kind="class 0")
    assert len(counts(world)) == MAX_CLASSES + 1
    assert counts(world)[OTHERS] == 100 - MAX_CLASSES
    assert counts(world)["class 0"] == 2


def test_the_first_estimate_is_compared_with_what_came():
    world = World()
    step = world.come()
    expected_s = world.program.remaining_path_s
    world.end(step, after_s=4.0)
    world.table.finish(("t", "p"), world.now)
    assert world.table.tally.expected_ratio.total == pytest.approx(expected_s / 4.0)
