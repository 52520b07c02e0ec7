"""Where a stretch of decode steps has to stop."""

from __future__ import annotations

from engine_world import names, request, small_engine


def test_stops_when_the_first_request_ends() -> None:
    engine = small_engine()
    engine.submit(request("a", range(4), range(5)), 0.0)
    engine.submit(request("b", range(4), range(9)), 0.0)
    engine.step(0.0)

    stretch = engine.advance(0.0)

    assert (stretch.steps, names(stretch.emitted), names(stretch.finished)) == (4, ["a", "b"], ["a"])
    assert stretch.computed_tokens == 8
    assert engine.advance(0.0).steps == 4


def test_takes_only_steps_that_begin_before_the_horizon() -> None:
    engine = small_engine()
    engine.submit(request("a", range(4), range(100)), 0.0)
    engine.step(0.0)

    stretch = engine.advance(5.0, until_s=5.0 + 2.5 * 0.0071)

    assert stretch.steps == 3
    assert engine.advance(5.0, until_s=5.0).steps == 1, "at least one step"
    assert engine.advance(5.0, max_steps=7).steps == 7


def test_prefill_and_admission_are_single_steps() -> None:
    engine = small_engine(budget=4)
    engine.submit(request("a", range(10), range(50)), 0.0)
    assert [engine.advance(0.0).steps for _ in range(3)] == [1, 1, 1]
    engine.submit(request("b", range(2), range(50)), 0.0)
    assert names(engine.advance(0.0).admitted) == ["b"]


def test_goes_on_while_the_queue_is_blocked_by_max_num_seqs() -> None:
    engine = small_engine(seqs=1)
    engine.submit(request("a", range(4), range(20)), 0.0)
    engine.submit(request("b", range(4), range(20)), 0.0)
    engine.step(0.0)
    assert engine.advance(0.0).steps == 19


def test_stops_before_a_block_is_missing_so_that_a_single_step_can_preempt() -> None:
    engine = small_engine(blocks=6, max_len=24)
    for name in "ab":
        engine.submit(request(name, range(ord(name), ord(name) + 8), range(9)), 0.0)
    engine.step(0.0)

    assert engine.advance(0.0).steps == 4
    assert names(engine.advance(0.0).preempted) == ["b"]


def test_stops_before_a_block_is_filled_that_lets_the_head_of_the_queue_in() -> None:
    engine = small_engine(blocks=8, max_len=32)
    engine.submit(request("writer", range(16), range(50, 66)), 0.0)
    engine.step(0.0)
    engine.step(0.0)
    # It needs 8 blocks and shares 4 while 3 are free; a fifth is filled by the writer's next three tokens.
    engine.submit(request("reader", [*range(16), *range(50, 62), 1]), 0.0)

    waited = engine.advance(0.0)
    joined = engine.advance(0.0)

    assert (waited.steps, names(waited.admitted)) == (2, [])
    assert names(joined.admitted) == ["reader"]
