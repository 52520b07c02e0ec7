"""The engine model, as vLLM v1 behaves."""

from __future__ import annotations

import pytest
from engine_world import STEP_TIME, chained, drain, names, request, small_engine

from sim.engine import BlocksRemoved, BlocksStored, CacheCleared, EngineConfig, Policy, StepTime


def test_a_prompt_longer_than_the_budget_is_computed_in_chunks_and_emits_after_the_last() -> None:
    engine = small_engine(budget=10)
    engine.submit(request("a", range(25), [1, 2]), 0.0)

    steps = drain(engine)

    assert [step.computed_tokens for step in steps] == [10, 10, 5, 1]
    assert [names(step.emitted) for step in steps] == [[], [], ["a"], ["a"]]
    assert names(steps[-1].finished) == ["a"]


def test_running_requests_take_the_budget_before_waiting_ones() -> None:
    engine = small_engine(budget=10)
    engine.submit(request("long", range(25), [1]), 0.0)
    engine.submit(request("short", range(100, 105), [1]), 0.0)

    steps = drain(engine)

    assert [names(step.admitted) for step in steps] == [["long"], [], ["short"]]
    assert [step.computed_tokens for step in steps] == [10, 10, 10]


def test_no_more_than_max_num_seqs_run() -> None:
    engine = small_engine(seqs=2)
    for name in "abc":
        engine.submit(request(name, range(4), [1, 2, 3]), 0.0)

    first = engine.step(0.0)

    assert names(first.admitted) == ["a", "b"]
    assert (engine.running, engine.waiting) == (2, 1)


def test_a_prefix_hit_is_not_computed_and_is_reported_once() -> None:
    engine = small_engine()
    engine.submit(request("a", range(16)), 0.0)
    drain(engine)
    again = request("b", [*range(8), *range(50, 60)])
    engine.submit(again, 1.0)

    (step,) = drain(engine)

    assert again.cached_tokens == 8
    assert step.computed_tokens == 10
    assert step.events == [BlocksStored(again, 2, 2)]
    assert (engine.prefix_queries_tokens, engine.prefix_hits_tokens) == (16 + 18, 8)


def test_the_last_token_of_a_cached_prompt_is_computed_again_with_its_block() -> None:
    engine = small_engine()
    engine.submit(request("a", range(16)), 0.0)
    drain(engine)
    again = request("b", range(16))
    engine.submit(again, 1.0)

    (step,) = drain(engine)

    assert again.cached_tokens == 12
    assert step.computed_tokens == 4
    assert step.events == [BlocksStored(again, 3, 1)], "a second block with the same hash"


def test_requests_of_the_same_step_share_blocks_that_are_only_being_computed() -> None:
    engine = small_engine()
    first, second = request("a", range(17)), request("b", range(17))
    engine.submit(first, 0.0)
    engine.submit(second, 0.0)

    engine.step(0.0)

    assert (first.cached_tokens, second.cached_tokens) == (0, 16)


def test_output_becomes_a_hit_for_the_next_turn() -> None:
    engine = small_engine()
    engine.submit(request("turn 1", range(6), range(100, 107)), 0.0)
    drain(engine)
    second = request("turn 2", [*range(6), *range(100, 107), 7])
    engine.submit(second, 1.0)
    engine.step(1.0)

    assert second.cached_tokens == 12, "13 tokens were written, the last of which was never fed back"


def test_only_blocks_in_use_count_as_usage() -> None:
    engine = small_engine(blocks=64)
    engine.submit(request("a", range(16), [1, 2]), 0.0)
    engine.step(0.0)
    assert engine.kv_usage == 4 / 64
    drain(engine)
    assert engine.kv_usage == 0.0


def test_the_tail_of_the_least_recently_freed_request_is_evicted_first() -> None:
    engine = small_engine(blocks=8, max_len=32)
    old, new = request("old", range(16)), request("new", range(100, 116))
    for one in (old, new):
        engine.submit(one, 0.0)
        drain(engine)
    engine.submit(request("c", range(200, 212)), 0.0)

    (step,) = drain(engine)

    removed = step.events[0]
    assert isinstance(removed, BlocksRemoved)
    assert removed.hashes.tolist() == old.block_hashes[3:0:-1].tolist()


def test_unused_blocks_go_before_any_hit() -> None:
    engine = small_engine(blocks=8, max_len=32)
    old = request("old", range(10))
    engine.submit(old, 0.0)
    drain(engine)
    engine.submit(request("new", range(100, 122)), 0.0)

    (step,) = drain(engine)

    assert [event for event in step.events if isinstance(event, BlocksRemoved)] == []


def test_fcfs_preempts_the_last_and_resumes_it_first() -> None:
    engine = small_engine(blocks=6, max_len=24, budget=32)
    first, last = request("first", range(8), range(9)), request("last", range(50, 58), range(9))
    late = request("late", range(90, 94))
    for one in (first, last):
        engine.submit(one, 0.0)
    for _ in range(5):
        engine.step(0.0)
    engine.submit(late, 1.0)

    preempting, *rest = drain(engine, 1.0)

    assert names(preempting.preempted) == ["last"]
    assert preempting.admitted == [], "nothing is admitted in a step that preempts"
    assert [name for step in rest for name in names(step.admitted)] == ["last", "late"]


def test_a_preempted_request_keeps_its_tokens_and_finds_what_is_left_of_its_blocks() -> None:
    engine = small_engine(blocks=6, max_len=24, budget=32)
    last = request("last", range(50, 58), range(9))
    engine.submit(request("first", range(8), range(9)), 0.0)
    engine.submit(last, 0.0)

    steps = drain(engine)

    assert last.preemptions == 1
    assert last.generated_tokens == 9
    assert sum("last" in names(step.emitted) for step in steps) == 9
    assert last.cached_tokens == 0, "what it found when it resumed does not count"
    assert engine.prefix_queries_tokens == 16


def test_priority_runs_lower_values_first_and_preempts_the_highest() -> None:
    engine = small_engine(blocks=6, max_len=24, budget=32, seqs=2, policy=Policy.PRIORITY)
    low, high, urgent = (
        request("low", range(8), range(9), priority=5),
        request("high", range(50, 58), range(9), priority=1),
        request("urgent", range(90, 94), priority=-1),
    )
    for one in (low, high, urgent):
        engine.submit(one, 0.0)

    steps = drain(engine)

    assert names(steps[0].admitted) == ["urgent", "high"]
    assert [names(step.preempted) for step in steps if step.preempted] == [["low"]]
    finished = [name for step in steps for name in names(step.finished)]
    assert finished == ["urgent", "high", "low"]


def test_a_victim_that_was_already_scheduled_gives_its_tokens_back_to_the_budget() -> None:
    engine = small_engine(blocks=101, block_size=1, budget=12, max_len=100, policy=Policy.PRIORITY)
    for name, priority in (("victim", 5), ("taker", 1)):
        prompt = range(priority * 100, priority * 100 + 12)
        engine.submit(request(name, prompt, range(50), block_size=1, priority=priority), 0.0)
        engine.step(0.0)
    for _ in range(2):
        engine.step(0.0)
    engine.submit(request("chunked", range(1000, 1071), block_size=1), 0.0)
    ordinary = [engine.step(0.0).computed_tokens for _ in range(6)]

    step = engine.step(0.0)

    assert ordinary == [12] * 6
    assert names(step.preempted) == ["victim"]
    assert step.computed_tokens == 12, "1 for the taker and all of the rest for the chunk"


def test_equal_priorities_go_by_arrival() -> None:
    engine = small_engine(seqs=1, policy=Policy.PRIORITY)
    for name, arrival in (("b", 2.0), ("a", 1.0)):
        engine.submit(request(name, range(4)), arrival)

    assert [names(step.finished) for step in drain(engine, 3.0)] == [["a"], ["b"]]


def test_a_request_that_does_not_fit_as_a_whole_is_not_admitted() -> None:
    engine = small_engine(blocks=8, max_len=32, budget=8)
    engine.submit(request("a", range(16), range(8)), 0.0)
    engine.step(0.0)
    engine.step(0.0)
    engine.submit(request("b", range(50, 71)), 0.0)

    assert engine.step(0.0).admitted == []


def test_abort_frees_the_blocks_at_once_wherever_the_request_is() -> None:
    engine = small_engine(seqs=1)
    engine.submit(request("runs", range(8), range(5)), 0.0)
    engine.submit(request("waits", range(8), range(5)), 0.0)
    engine.step(0.0)

    assert engine.abort("runs")
    assert engine.abort("waits")

    assert (engine.running, engine.waiting, engine.kv_usage, engine.has_work) == (0, 0, 0.0, False)
    assert not engine.abort("runs")


def test_length_is_clipped_to_the_model() -> None:
    engine = small_engine(max_len=20)
    one = request("a", range(15), range(100))
    engine.submit(one, 0.0)
    drain(engine)
    assert one.generated_tokens == 5


@pytest.mark.parametrize(("prompt", "output"), [(20, 1), (0, 1), (5, 0)])
def test_what_can_never_be_served_is_refused(prompt: int, output: int) -> None:
    engine = small_engine(max_len=20)
    with pytest.raises(ValueError, match=r"needs|at least"):
        engine.submit(request("a", range(prompt), range(output)), 0.0)


def test_an_id_can_be_used_once_at_a_time() -> None:
    engine = small_engine()
    engine.submit(request("a", range(4)), 0.0)
    with pytest.raises(ValueError, match="in use"):
        engine.submit(request("a", range(4)), 0.0)
    drain(engine)
    engine.submit(request("a", range(4)), 1.0)


def test_a_cache_too_small_for_the_longest_request_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        EngineConfig(STEP_TIME, num_blocks=8, block_size_tokens=4, max_model_len_tokens=29)


def test_reset_waits_for_idle_and_is_reported_with_the_next_step() -> None:
    engine = small_engine()
    engine.submit(request("a", range(16), [1, 2]), 0.0)
    engine.step(0.0)
    assert not engine.reset_prefix_cache()
    drain(engine)

    assert engine.reset_prefix_cache()
    again = request("b", range(16))
    engine.submit(again, 1.0)
    step = engine.step(1.0)

    assert again.cached_tokens == 0
    assert step.events == [CacheCleared(), BlocksStored(again, 0, 4)]


def test_reset_can_preempt_what_runs() -> None:
    engine = small_engine()
    one = request("a", range(16), [1, 2, 3])
    engine.submit(one, 0.0)
    engine.step(0.0)

    assert engine.reset_prefix_cache(preempt_running=True)
    step = engine.step(1.0)

    assert step.computed_tokens == 17
    assert names(step.admitted) == ["a"]


def test_blocks_without_a_hash_are_never_shared() -> None:
    engine = small_engine()
    for name in "ab":
        one = request(name, range(16))
        one.block_hashes = chained(range(8))
        engine.submit(one, 0.0)
        drain(engine)
        assert one.cached_tokens == (0 if name == "a" else 8)


def test_nothing_to_do_takes_no_time() -> None:
    result = small_engine().step(0.0)
    assert (result.steps, result.duration_s, result.events) == (0, 0.0, [])


def test_step_time_is_the_sum_of_its_terms() -> None:
    times = StepTime(
        fixed_ps=10**12,
        prefill_token_ps=10**9,
        attention_pair_ps=10**6,
        decode_seq_ps=10**8,
        context_token_ps=10**5,
    )
    engine = small_engine(budget=10)
    engine.config = EngineConfig(times, 65, 4, 10, 8, 128)
    engine.submit(request("a", range(12), [1, 2]), 0.0)

    first, second, third = (engine.step(0.0) for _ in range(3))

    assert first.duration_ps == 10**12 + 10 * 10**9 + 55 * 10**6 + 10 * 10**5
    assert second.duration_ps == 10**12 + 2 * 10**9 + (2 * 10 + 3) * 10**6 + 12 * 10**5
    assert third.duration_ps == 10**12 + 10**8 + 13 * 10**5
