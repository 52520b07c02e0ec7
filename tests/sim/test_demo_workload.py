"""The demo's agents: the same for the same seed, shaped like ReAct and tree of thought, too large for the fleet."""

import random
from itertools import pairwise

import pytest

from sim.demo.text import estimated_tokens, write
from sim.demo.workload import make_programs, peak_context_tokens
from sim.engine.profile import load_profile

REPLICAS = 4
SECONDS = 4.0


@pytest.fixture(params=[1, 2, 3, 4, 5])
def programs(request):
    return make_programs(request.param, SECONDS, REPLICAS)


def of_kind(programs, kind):
    return [program for program in programs if program.kind == kind]


def test_the_same_seed_makes_the_same_programs():
    assert make_programs(7, SECONDS, REPLICAS) == make_programs(7, SECONDS, REPLICAS)


def test_another_seed_makes_other_programs_of_the_same_number():
    some, others = make_programs(1, SECONDS, REPLICAS), make_programs(2, SECONDS, REPLICAS)
    assert len(some) == len(others)
    assert not {program.stages[0].turns[0].text for program in some} & {
        program.stages[0].turns[0].text for program in others
    }


@pytest.mark.parametrize(("seconds", "replicas"), [(2.0, 4), (4.0, 2)])
def test_the_load_grows_with_time_and_replicas(seconds, replicas):
    assert len(make_programs(1, SECONDS, REPLICAS)) == pytest.approx(
        2 * len(make_programs(1, seconds, replicas)), abs=1
    )


def test_even_the_smallest_load_has_a_program():
    assert len(make_programs(1, 0.1, 1)) == 1


def test_programs_start_in_order_within_the_time(programs):
    starts = [program.start_s for program in programs]
    assert starts == sorted(starts)
    assert starts[0] >= 0.0
    assert starts[-1] < SECONDS


def test_most_programs_are_react_sessions(programs):
    assert len(of_kind(programs, "react")) > len(of_kind(programs, "tree")) >= 2


def test_react_sessions_share_instructions_and_tools_and_nothing_else(programs):
    sessions = of_kind(programs, "react")
    assert len({session.system for session in sessions}) == 1
    assert all(session.tools == sessions[0].tools for session in sessions)
    texts = [turn.text for session in sessions for stage in session.stages for turn in stage.turns]
    assert len(set(texts)) == len(texts)


def test_a_react_session_is_one_call_at_a_time_with_a_tool_wait_before_each_but_the_first(programs):
    for session in of_kind(programs, "react"):
        assert all(len(stage.turns) == 1 for stage in session.stages)
        assert session.stages[0].wait_s == 0.0
        assert all(stage.wait_s > 0.0 for stage in session.stages[1:])
        assert session.calls == len(session.stages) >= 5


def test_a_tree_sends_branches_at_once_and_evaluates_the_best_of_them(programs):
    for tree in of_kind(programs, "tree"):
        _, *levels = tree.stages
        for branches, evaluation in zip(levels[::2], levels[1::2], strict=True):
            assert len(branches.turns) == 5
            assert branches.best in range(5)
            assert branches.wait_s == 0.0
            assert len(evaluation.turns) == 1


def test_every_program_and_stage_has_a_name(programs):
    assert len({program.name for program in programs}) == len(programs)
    assert all(stage.name for program in programs for stage in program.stages)


def test_what_follows_siblings_is_one_call(programs):
    for program in programs:
        widths = [len(stage.turns) for stage in program.stages]
        assert widths[-1] == 1
        assert all(following == 1 for width, following in pairwise(widths) if width > 1)


def test_only_a_tree_knows_how_long_it_gets(programs):
    for program in programs:
        left = [stage.remaining for stage in program.stages]
        assert left == (list(range(6, -1, -1)) if program.kind == "tree" else [None] * len(left))


def test_live_contexts_exceed_the_memory_of_the_fleet(programs):
    engine = load_profile("laptop-demo").engine
    capacity_tokens = REPLICAS * engine.usable_blocks * engine.block_size_tokens
    assert 1.5 * capacity_tokens < peak_context_tokens(programs) < 2.5 * capacity_tokens


def test_every_conversation_fits_the_model(programs):
    limit_tokens = load_profile("laptop-demo").engine.max_model_len_tokens
    for program in programs:
        assert program.context_tokens + estimated_tokens(program.system + str(program.tools)) < limit_tokens * 0.8


@pytest.mark.parametrize("tokens", [1, 30, 1000])
def test_text_is_as_long_as_asked(tokens):
    assert estimated_tokens(write(random.Random(1), tokens)) == pytest.approx(tokens, abs=1)
