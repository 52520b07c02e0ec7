"""Offered work: what a workload costs a replica that computes no token twice."""

from itertools import count

import numpy as np
import pytest

from sim.engine import Engine, EngineConfig, Request, StepTime, load_profile
from sim.workloads.draft import Draft, Thread
from sim.workloads.draw import Range
from sim.workloads.fit import fitting
from sim.workloads.offered import offered_work
from sim.workloads.program import Context
from sim.workloads.registry import make_workload, workload_names

ENGINE = load_profile("llama-3.1-8b-1xh100").engine


def two_turns(prompt=1000, answer=50, question=20):
    draft = Draft(count())
    talk = Thread(draft)
    talk.hear(Context.USER, prompt)
    talk.call("first", answer)
    talk.hear(Context.USER, question)
    talk.call("second", answer)
    return draft.program("chat", 0)


def test_prompts_and_answers_are_not_prefilled_again():
    work = offered_work([two_turns()], ENGINE)
    assert (work.programs, work.requests) == (1, 2)
    assert work.prompt_tokens == 1000 + 1000 + 50 + 20
    assert work.prefill_tokens == 1000 + 20
    assert work.output_tokens == 100
    assert work.hit_rate == pytest.approx(1050 / 2070)


def test_busy_time_is_that_of_the_engine_s_own_formula():
    """One request alone in its batch: prefill in one step, then a step for each further token."""
    engine = EngineConfig(
        StepTime(
            fixed_ps=7_000_000,
            prefill_token_ps=28_000,
            attention_pair_ps=11,
            decode_seq_ps=15_000,
            context_token_ps=51,
        ),
        num_blocks=101,
        max_num_seqs=1,
        max_model_len_tokens=1600,
    )
    draft = Draft(count())
    alone = Thread(draft)
    alone.hear(Context.USER, 1000)
    alone.call("only", 101)
    real = Engine(engine)
    real.submit(Request("only", 1000, 101), 0.0)
    took_s = 0.0
    while real.has_work:
        took_s += real.step(took_s).duration_s
    prefill_rides_along_s = 7_000_000 / 1e12
    assert offered_work([draft.program("x", 0)], engine).busy_s == pytest.approx(took_s - prefill_rides_along_s)


@pytest.mark.parametrize("name", ["uniform", "shared-prefix"])
def test_an_engine_with_a_full_batch_needs_as_long(name):
    parameters = {"groups": 8} if name == "shared-prefix" else {}
    programs = make_workload(name, 1, 400, **parameters)
    engine, now = Engine(ENGINE), 0.0
    for program in programs:
        (step,) = program.steps
        hashes = [hash((part, index)) % 2**64 for part in step.parts for index in range(part.tokens // 16)]
        engine.submit(Request(program.id, step.prompt_tokens, step.output_tokens, np.array(hashes, np.uint64)), now)
    while engine.has_work:
        now += engine.advance(now).duration_s
    assert offered_work(programs, ENGINE).busy_s == pytest.approx(now, rel=0.1)


def test_load_and_rate_are_two_sides_of_one_thing():
    work = offered_work(make_workload("uniform", 1, 100), ENGINE)
    rate_per_s = work.rate_at(0.7, replicas=8)
    assert work.load_of(100 / rate_per_s, replicas=8) == pytest.approx(0.7)
    assert work.rate_at(1.4, 8) == pytest.approx(2 * rate_per_s)
    assert work.rate_at(0.7, 16) == pytest.approx(2 * rate_per_s)


def test_sharing_makes_work_cheaper():
    alone, together = (
        offered_work(make_workload("swarm", 1, 20, context_reuse=reuse, shared_tokens=Range(30_000, 30_000)), ENGINE)
        for reuse in (0.0, 1.0)
    )
    assert together.prompt_tokens == alone.prompt_tokens
    assert together.prefill_tokens == alone.prefill_tokens - 19 * 30_000
    assert together.busy_s < alone.busy_s


@pytest.mark.parametrize("name", workload_names())
def test_every_workload_can_be_weighed(name):
    work = offered_work(make_workload(name, 1, 30), ENGINE)
    assert 0 < work.busy_s < 1e5
    assert 0 <= work.hit_rate < 1
    assert 0 < work.prefill_tokens <= work.prompt_tokens


def test_bad_input():
    with pytest.raises(ValueError, match="empty workload"):
        offered_work([], ENGINE)
    with pytest.raises(ValueError, match=r"step first of chat-0 needs 200050 tokens and the engine takes 131072"):
        offered_work([two_turns(prompt=200_000)], ENGINE)
    with pytest.raises(ValueError, match="load must be above 0"):
        offered_work([two_turns()], ENGINE).rate_at(0, 8)


class TestFitting:
    def chain(self, *prompts):
        draft = Draft(count())
        thread = Thread(draft)
        for number, tokens in enumerate(prompts):
            thread.parts = ()
            thread.hear(Context.USER, tokens)
            thread.call(f"step-{number}", 10, wait_s=float(number))
        return draft.program("chain", 0)

    def test_what_fits_stays_as_it_is(self):
        program = self.chain(10, 20, 30)
        assert fitting([program], 40) == ([program], 0)

    def test_what_followed_a_step_too_long_follows_its_forerunner(self):
        ((program,), dropped) = fitting([self.chain(10, 500, 600, 30)], 100)
        assert dropped == 2
        assert [(step.name, step.after, step.wait_s) for step in program.steps] == [
            ("step-0", (), 0.0),
            ("step-3", ("step-0",), 6.0),
        ]

    def test_a_first_step_too_long(self):
        ((program,), _) = fitting([self.chain(500, 20)], 100)
        assert [(step.name, step.after, step.wait_s) for step in program.steps] == [("step-1", (), 1.0)]

    def test_a_join_keeps_its_other_branches(self):
        draft = Draft(count())
        root = Thread(draft)
        root.hear(Context.USER, 10)
        root.call("root", 5)
        branches = [root.fork() for _ in range(3)]
        for index, branch in enumerate(branches):
            branch.hear(Context.BRANCH, 500 if index == 1 else 10)
            branch.call(f"branch-{index}", 5)
        root.join(*branches)
        root.call("join", 5)
        ((program,), dropped) = fitting([draft.program("fork", 0)], 100)
        assert dropped == 1
        assert program.steps[-1].after == ("branch-0", "root", "branch-2")

    def test_nothing_left(self):
        assert fitting([self.chain(500, 500)], 100) == ([], 2)
