"""Declared, hinted and observed parts of a graph become one, and what happens overrules what was said."""

import pytest
from program_world import TOKEN_S, TOKENS_PER_S, World

from router.core.programs.declare import read_declaration
from router.core.programs.step import State
from router.core.types import Outcome

CALL_S = 1000 / TOKENS_PER_S + 100 * TOKEN_S


def declare(world, **after):
    steps = [{"name": name, "after": names, "output_tokens": 100, "tool_ms": 0} for name, names in after.items()]
    return world.table.declare(("t", "p"), read_declaration({"steps": steps}), world.now)


def states(world):
    return {name: str(step.state) for name, step in world.program.steps.items()}


def test_a_call_goes_through_its_states():
    world = World()
    step = world.come("a", output_tokens=100)
    assert step.state is State.WAITING
    assert world.program.remaining_work_s == pytest.approx(CALL_S)
    world.table.dispatched(step, 500, world.now)
    assert step.state is State.RUNNING
    assert world.program.remaining_work_s == pytest.approx(CALL_S - 500 / TOKENS_PER_S), "half of the prompt is cached"
    world.table.started(step, world.now)
    assert world.program.remaining_work_s == pytest.approx(99 * TOKEN_S), "only decoding is left"
    world.end(step)
    assert step.state is State.DONE
    assert world.program.rank_s(step) == 0.0


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(Outcome.FAILED, "failed"), (Outcome.REJECTED, "failed"), (Outcome.CLIENT_GONE, "abandoned")],
)
def test_ends_that_are_no_answers(outcome, state):
    world = World()
    world.end(world.come("a"), outcome=outcome)
    assert states(world) == {"a": state}
    assert world.program.history.all.output_tokens.observations == 0


def test_a_client_that_leaves_the_queue_abandons_its_step():
    world = World()
    step = world.come("a", remaining_steps=3)
    world.now = 4.0
    world.table.withdrawn(step, world.now)
    assert step.state is State.ABANDONED
    assert world.program.remaining_path_s == world.program.remaining_work_s == 0.0
    assert world.program.waited_s == 4.0
    world.table.dispatched(step, 0, world.now)
    assert step.state is State.ABANDONED, "what is told of it afterwards goes nowhere"


def test_a_declared_step_that_comes_early_waits_for_nobody():
    world = World()
    declare(world, a=[], b=["a"], c=["b"])
    b = world.come("b", output_tokens=100)
    assert not b.waits_for
    assert world.program.contradicted == 1
    assert world.program.rank_s(world.program.steps["a"]) < world.program.rank_s(b), "a holds up nothing now"


def test_a_step_that_nobody_declared_is_entered_all_the_same():
    world = World()
    declare(world, a=[], b=["a"])
    world.call("a")
    world.call("surprise")
    assert states(world) == {"a": "done", "b": "expected", "surprise": "done"}
    assert world.program.contradicted == 1


def test_a_second_declaration_replaces_what_is_expected_and_keeps_what_happened():
    world = World()
    declare(world, a=[], b=["a"], c=["b"])
    world.call("a")
    running = world.come("b")
    declare(world, a=[], d=["a"], e=["d", "b"], b=["a"])
    assert states(world) == {"a": "done", "b": "waiting", "d": "expected", "e": "expected"}
    assert list(running.followers) == [world.program.steps["e"]]
    assert list(world.program.steps["e"].waits_for) == [world.program.steps["d"], running]


def test_without_a_word_a_step_follows_the_one_that_ended_last():
    world = World()
    world.say_nothing()
    first, second = world.say_nothing(), world.say_nothing()
    world.end(second)
    world.end(first)
    third = world.say_nothing()
    assert third.after == (first.name,)
    assert (first.level, third.level) == (1, 2)


def test_what_is_said_to_be_left_is_left():
    world = World()
    step = world.come("a", remaining_steps=4, output_tokens=100)
    assert world.program.remaining_calls == 5
    world.end(step)
    assert world.program.remaining_calls == 4, "a tool may be running"
    assert world.program.remaining_path_s > 0.0
    world.come("b", after=("a",), remaining_steps=3)
    assert world.program.remaining_calls == 4
    assert world.program.contradicted == 0


def test_what_a_client_said_before_holds_where_it_says_nothing():
    world = World()
    world.call("a", remaining_steps=4)
    world.say_nothing()
    assert world.program.remaining_calls == 4


def test_of_two_that_contradict_each_other_the_smaller_is_believed():
    world = World()
    world.call("a", remaining_steps=3)
    world.come("b", after=("a",), remaining_steps=50)
    assert world.program.remaining_calls == 3
    assert world.program.contradicted == 1


def test_a_follower_where_none_was_left_is_believed():
    world = World()
    world.call("a", remaining_steps=0)
    world.come("b", after=("a",), remaining_steps=5)
    assert world.program.remaining_calls == 6
    assert world.program.contradicted == 1


def test_a_number_beyond_reason_is_cut_to_what_the_class_does():
    world = World()
    for number in range(40):
        for turn in range(5):
            world.call(f"turn-{turn}", program=f"p{number}", kind="agent", final=turn == 4)
    world.come("turn-0", kind="agent", remaining_steps=1000)
    assert world.program.remaining_calls == 1 + 2 * 4


def test_a_final_step_leaves_nothing_and_another_one_reopens():
    world = World()
    world.come("a", remaining_steps=5, join="j", width=3)
    last = world.come("b", final=True)
    assert world.program.remaining_calls == 2, "the two that are open"
    world.end(last)
    assert world.program.finished_s is None, "a is still open"
    world.come("c", after=("b",))
    assert not world.program.final
    assert world.program.contradicted >= 1


def test_siblings_share_the_rank_of_what_waits_for_them():
    world = World()
    a, b = (world.come(name, join="sum", width=2, remaining_steps=3, output_tokens=100) for name in "ab")
    total = world.program.steps["sum"]
    assert total.state is State.EXPECTED
    assert world.program.rank_s(a) == world.program.rank_s(b) == pytest.approx(CALL_S + world.program.rank_s(total))
    assert world.program.remaining_calls == 2 + 1 + 2 * world.program.breadth, "the one that waits, and two more"
    assert (a.join.left, a.join.missing) == (2, 0)
    world.end(a)
    assert b.join.left == 1


def test_missing_siblings_count_once_two_have_come():
    world = World()
    world.come("a", join="sum", width=5, remaining_steps=1)
    assert world.program.remaining_calls == 2
    step = world.come("b", join="sum", width=5, remaining_steps=1)
    assert step.join.missing == 3
    assert world.program.remaining_calls == 2 + 3 + 1
    world.come("c", remaining_steps=2)
    assert world.program.remaining_calls == 3 + 2 + 1 + 2 * world.program.breadth, "c may be one of the three"


@pytest.mark.parametrize("name", ["sum", "other", ""])
def test_the_step_that_waits_is_recognised(name):
    world = World()
    for sibling in "ab":
        world.call(sibling, join="sum", width=2, remaining_steps=1)
    expected = world.program.steps["sum"]
    came = world.come(name, after=("a", "b") if name else (), remaining_steps=0)
    assert came is expected
    assert came.name == (name or "sum")
    assert world.program.remaining_calls == 1
    assert world.program.contradicted == 0


def test_who_is_missing_when_the_join_comes_does_not_count_any_more():
    world = World()
    for sibling in "ab":
        world.call(sibling, join="sum", width=9, remaining_steps=1)
    assert world.program.missing == 7
    world.come("sum", after=("a", "b"))
    assert world.program.missing == 0
    assert world.program.contradicted == 1
    late = world.come("c", join="sum", width=9, remaining_steps=1)
    assert late.join is None


def test_a_join_that_the_program_goes_past_is_doubted_until_a_sibling_comes():
    world = World()
    world.call("a", join="never", width=4, remaining_steps=5)
    # a's follower is not recognised, as it names others.
    for before, name in (("x", "b"), ("b", "c"), ("c", "d")):
        world.call(name, after=(before,), remaining_steps=1)
    assert states(world)["never"] == "abandoned"
    world.come("e", after=("d",), join="never", width=4, remaining_steps=2)
    assert states(world)["never"] == "expected"


def test_a_step_without_a_word_is_taken_for_a_missing_sibling():
    world = World()
    for name in "ab":
        world.come(name, join="sum", width=3, remaining_steps=1)
    silent = world.say_nothing()
    assert silent.join is not None
    assert silent.join.missing == 0


def test_a_failed_step_is_tried_again_under_its_name():
    world = World()
    declare(world, a=[], b=["a"])
    first = world.end(world.come("a"), outcome=Outcome.FAILED)
    assert world.program.remaining_path_s == world.program.rank_s(world.program.steps["b"]) > 0.0
    again = world.come("a")
    assert again is first
    assert (again.tries, world.program.calls) == (2, 1)
    assert world.program.rank_s(again) > world.program.rank_s(world.program.steps["b"])


def test_a_failed_call_without_a_name_is_known_by_its_request():
    world = World()
    failed = world.end(world.come(request_id="r"), outcome=Outcome.REJECTED)
    assert world.come(request_id="r") is failed
    assert world.come(request_id="s") is not failed


def test_a_name_that_comes_again_is_another_step():
    world = World()
    first = world.call("agent")
    second = world.come("agent")
    assert list(world.program.steps) == ["agent~0", "agent"]
    assert (first.name, second.name) == ("agent~0", "agent")
    world.come("next", after=("agent",))
    assert world.program.contradicted == 1, "the newer one is meant, and it has not ended"


def test_no_more_tool_waits_than_there_ever_were_calls_at_once():
    world = World()
    for number in range(5):
        world.call(f"s{number}", after=("a name that was never heard",), remaining_steps=9)
        assert len(world.program.loose) == 1


def test_hostile_numbers_are_bounded():
    world = World()
    world.come("a", remaining_steps=10**18, join="j", width=10**18, output_tokens=10**18, max_tokens=1000)
    world.come("b", remaining_steps=-5, join="j", width=-5, output_tokens=-5)
    assert world.program.missing <= 4096
    assert 0.0 < world.program.remaining_work_s < 1e6
    for number in range(200):
        world.come(f"s{number}", join=f"j{number}", width=2)
    assert len(world.program.joins) <= 64
