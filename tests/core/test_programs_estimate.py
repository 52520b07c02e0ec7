"""What is expected of calls: by hint, by history, by what is usual, at the rates that were learned."""

import pytest
from program_world import TOKEN_S, TOKENS_PER_S, World

from router.core.programs.history import Calls, ClassHistory
from router.core.rates import DecodeRate
from router.core.types import Outcome, Usage


def expected_tokens(world, step="a", **hint):
    return world.come(step, program=f"new {world.count}", **hint).output_tokens


def test_output_is_expected_by_hint_then_by_kind_then_by_class_then_by_max_tokens():
    world = World()
    assert expected_tokens(world) == 256.0
    assert expected_tokens(world, max_tokens=400) == 100.0
    assert expected_tokens(world, max_tokens=100, output_tokens=5_000) == 100.0
    for number in range(5):
        world.call(f"plan-{number}", tokens=1_000)
        world.call("act", tokens=100)
    assert expected_tokens(world, "plan-9") == pytest.approx(1_000)
    assert expected_tokens(world, "act") == pytest.approx(100)
    assert expected_tokens(world, "never seen") == pytest.approx(550, rel=0.05)
    assert expected_tokens(world, "plan-9", output_tokens=7) == 7
    assert expected_tokens(world, "plan-9", max_tokens=300) == 300


def test_hints_that_were_wrong_before_are_believed_less():
    world = World()
    for _ in range(20):
        world.call("a", tokens=100, output_tokens=1_000)
    assert expected_tokens(world, output_tokens=1_000) < 200
    world = World()
    for number in range(20):
        world.call("a", tokens=100 + 50 * number, output_tokens=100 + 50 * number)
    assert expected_tokens(world, output_tokens=1_000) == 1_000


def test_what_caches_usually_hold_need_not_be_computed():
    world = World()
    for _ in range(5):
        world.end(world.come("a", prompt_tokens=1_000, output_tokens=100), cached=900)
    step = world.come("a", prompt_tokens=10_000, output_tokens=100)
    assert step.time_s == pytest.approx(1_000 / TOKENS_PER_S + 100 * TOKEN_S)


def test_tool_waits_are_learned_by_kind_of_step():
    world = World()
    for number in range(10):
        world.call("ask", program=f"{number}")
        world.now += 7.0
        world.call("web-1", after=("ask",), program=f"{number}")
        world.now += 1.0
        world.call("sum", after=("web-1",), program=f"{number}")
    history = world.table.get(("t", "0")).history
    assert history.waits_s("web-#").mean() == pytest.approx(7.0)
    assert history.waits_s("sum").quantile(0.5) == pytest.approx(1.0, rel=0.1)
    assert history.waits_s("unheard of").mean() == pytest.approx(4.0, rel=0.05)


def test_waits_are_not_learned_where_it_is_unclear_what_was_waited_for():
    world = World()
    world.call("a")
    world.now += 50.0
    world.call("b", after=("a", "one that was never heard of"))
    assert world.program.history.all.wait_s.observations == 0


def test_a_stranger_is_judged_by_its_class():
    world = World()
    for number in range(30):
        for _ in range(4 if number % 2 else 12):
            world.end(world.come("", program=f"{number}", kind="agent"))
    first = world.come("", kind="agent")
    stranger = first.program
    assert stranger.remaining_calls == pytest.approx(8, abs=1.0)
    assert (stranger.likely_calls_left(0.1), stranger.likely_calls_left(0.9)) == (3, 11)
    assert stranger.evidence == pytest.approx(27, abs=1)
    world.end(first)
    for _ in range(5):
        world.call("", kind="agent")
    assert stranger.remaining_calls == pytest.approx(12 - 6, abs=0.5), "only the long ones came as far"
    assert stranger.evidence == pytest.approx(14, abs=1)


def test_of_an_unknown_class_nothing_is_known_and_that_is_said():
    world = World()
    program = world.come("", kind="new").program
    assert program.remaining_calls == 1
    assert program.evidence == 1.0


def test_evidence_of_hints_shrinks_with_each_contradiction():
    world = World()
    for number in range(4):
        world.call(f"s{number}", after=(f"s{number - 1}",), remaining_steps=9 - number)
    right = world.program.evidence
    world.call("s4", after=("s3",), remaining_steps=50)
    assert 0 < world.program.evidence < right


def test_side_by_side_steps_make_a_class_broad():
    world = World()
    for number in range(10):
        siblings = [world.come(f"s{each}", program=f"{number}", kind="swarm") for each in range(4)]
        for step in siblings:
            world.end(step, after_s=0.0)
        world.end(world.come("sum", program=f"{number}", after=("s0", "s1"), kind="swarm"))
    program = world.come("s0", kind="swarm", remaining_steps=1).program
    assert 3.0 < program.breadth < 4.0, "three siblings more and the sum, one call further"
    assert program.remaining_calls == pytest.approx(1 + program.breadth)


def test_the_path_of_what_is_unknown_grows_as_that_of_the_class_did():
    world = World()
    for number in range(10):
        for turn in range(5):
            world.call(f"t{turn}", program=f"{number}", after=(f"t{turn - 1}",) if turn else (), kind="agent")
            world.now += 9.0
    step = world.come("t0", kind="agent", remaining_steps=4)
    assert step.tail_s == pytest.approx(4 * 10.0, rel=0.1), "each nine of waiting and one of call"


def test_time_per_output_token_is_learned_from_streamed_answers():
    world = World()
    step = world.come("a")
    world.table.dispatched(step, 0, 0.0)
    world.table.started(step, 1.0)
    world.table.ended(step, Usage(1000, 0, 101), Outcome.OK, 6.0)
    assert world.table.rates.decode.output_token_s() == pytest.approx(0.05)
    assert world.table.rates.call_s(500, 10) == pytest.approx(500 / TOKENS_PER_S + 0.5)


@pytest.mark.parametrize("usage", [None, Usage(10, 0, None), Usage(10, 0, 1), Usage(10, 0, 0)])
def test_nothing_is_learned_of_answers_that_tell_nothing(usage):
    world = World()
    step = world.come("a")
    world.table.dispatched(step, 0, 0.0)
    world.table.started(step, 1.0)
    world.table.ended(step, usage, Outcome.OK, 6.0)
    assert world.table.rates.decode.output_token_s() == TOKEN_S


def test_the_decode_rate_follows_the_fleet():
    rate = DecodeRate()
    for _ in range(200):
        rate.observe(100, 2.0)
    for _ in range(200):
        rate.observe(100, 4.0)
    assert rate.output_token_s() == pytest.approx(0.04, rel=0.01)


def test_a_class_that_is_not_known_is_judged_by_everyone():
    everyone = Calls()
    history, other = ClassHistory(everyone), ClassHistory(everyone)
    for _ in range(5):
        other.called("k", 1_000, 500, 80)
        other.waited("k", 3.0)
    assert history.calls("anything").output_tokens.mean() == pytest.approx(80)
    assert history.waits_s("anything").mean() == pytest.approx(3.0)
    assert history.level_s() is None
