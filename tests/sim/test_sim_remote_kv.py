"""Prompts whose KV blocks come from another replica, as in vLLM with NixlConnector."""

from __future__ import annotations

import pytest
from engine_world import drain, names, request, small_engine

from sim.engine import BlocksStored, Engine, KvLoadFailurePolicy, Policy, Request, Status, TransferModel


def remote(name: str, prompt: range, output: range = range(1), tokens: int | None = None) -> Request:
    """A request whose prompt another replica has computed, or its first tokens."""
    one = request(name, prompt, output)
    one.remote_tokens = one.prompt_tokens if tokens is None else tokens
    return one


def kept(name: str, prompt: range) -> Request:
    one = request(name, prompt)
    one.keep_for_transfer = True
    return one


def test_takes_its_blocks_and_waits_outside_of_the_batch() -> None:
    engine = small_engine(budget=20)
    engine.submit(remote("fetches", range(18)), 0.0)
    engine.submit(request("computes", range(50, 70), range(3)), 0.0)

    step = engine.step(0.0)

    assert names(step.fetching) == ["fetches"]
    assert (names(step.admitted), step.computed_tokens) == (["computes"], 20), "it leaves all of the budget to others"
    assert engine.kv_usage == 10 / 64
    assert (engine.running, engine.waiting, engine.fetching) == (1, 1, 1)


def test_when_its_kv_has_come_it_computes_one_token_and_answers() -> None:
    engine = small_engine()
    one = remote("a", range(18), range(2))
    engine.submit(one, 0.0)
    began = engine.step(0.0)
    assert (began.steps, began.duration_ps, began.events) == (0, 0, [])
    assert not engine.has_work, "nothing can be done before the KV has come"

    assert engine.kv_arrived("a")
    first, second = drain(engine, 1.0)

    assert (one.fetched_tokens, one.cached_tokens, one.scheduled_s) == (18, 0, 1.0)
    assert (first.computed_tokens, names(first.emitted)) == (1, ["a"])
    assert first.events == [BlocksStored(one, 0, 4)], "what was transferred is published like what is computed"
    assert names(second.finished) == ["a"]


def test_fetches_only_what_the_cache_does_not_have() -> None:
    engine = small_engine()
    engine.submit(request("before", range(10)), 0.0)
    drain(engine)
    one = remote("a", range(18))
    engine.submit(one, 1.0)

    engine.step(1.0)

    assert (one.cached_tokens, one.fetched_tokens) == (8, 10)


def test_tokens_that_the_other_replica_does_not_hold_are_computed() -> None:
    engine = small_engine()
    one = remote("a", range(18), tokens=10)
    engine.submit(one, 0.0)
    engine.step(0.0)
    engine.kv_arrived("a")

    (step,) = drain(engine)

    assert (one.fetched_tokens, step.computed_tokens) == (10, 8)


def test_nothing_is_fetched_that_is_all_in_the_cache() -> None:
    engine = small_engine()
    engine.submit(request("before", range(18)), 0.0)
    drain(engine)
    one = remote("a", range(18), tokens=16)
    engine.submit(one, 1.0)

    step = engine.step(1.0)

    assert (step.fetching, names(step.finished), one.fetched_tokens) == ([], ["a"], 0)


def test_what_is_under_way_cannot_be_shared_yet() -> None:
    engine = small_engine()
    engine.submit(remote("first", range(18)), 0.0)
    engine.step(0.0)
    early, late = request("early", range(18)), request("late", range(18))
    engine.submit(early, 0.0)
    engine.step(0.0)
    engine.kv_arrived("first")
    engine.submit(late, 1.0)
    engine.step(1.0)

    assert (early.cached_tokens, late.cached_tokens) == (0, 16)


def test_joins_before_those_that_wait_for_blocks() -> None:
    engine = small_engine(seqs=1)
    engine.submit(remote("fetches", range(8)), 0.0)
    engine.step(0.0)
    for name in ("runs", "waits"):
        engine.submit(request(name, range(50, 58), range(3)), 0.0)
    engine.step(0.0)
    engine.kv_arrived("fetches")

    finished = [name for step in drain(engine) for name in names(step.finished)]

    assert finished == ["runs", "fetches", "waits"]


@pytest.mark.parametrize(
    ("policy", "joined"), [(Policy.FCFS, ["old", "new"]), (Policy.PRIORITY, ["new", "old"])], ids=str
)
def test_those_that_have_fetched_join_in_the_order_of_the_policy(policy: Policy, joined: list[str]) -> None:
    engine = small_engine(policy=policy)
    for name, priority in (("old", 2), ("new", 1)):
        one = remote(name, range(8))
        one.priority = priority
        engine.submit(one, 0.0)
        engine.step(0.0)
    for name in ("new", "old"):
        engine.kv_arrived(name)

    assert names(engine.step(1.0).admitted) == joined


def test_who_begins_anew_after_a_failed_fetch_goes_before_those_that_never_held_blocks() -> None:
    engine = small_engine(seqs=1, kv_load_failure_policy=KvLoadFailurePolicy.RECOMPUTE)
    engine.submit(remote("fetches", range(8)), 0.0)
    engine.step(0.0)
    for name in ("runs", "waits"):
        engine.submit(request(name, range(50, 58), range(3)), 0.0)
    engine.step(0.0)
    engine.kv_failed("fetches")

    assert [name for step in drain(engine) for name in names(step.finished)] == ["runs", "fetches", "waits"]


def test_a_stretch_of_decode_steps_ends_where_fetched_kv_lets_a_request_in() -> None:
    engine = small_engine()
    engine.submit(request("decodes", range(50, 54), range(40)), 0.0)
    engine.submit(remote("fetches", range(8), range(30)), 0.0)
    engine.step(0.0)
    assert engine.advance(0.0, max_steps=5).steps == 5, "what fetches holds nobody up"

    engine.kv_arrived("fetches")
    joined = engine.advance(0.0)

    assert (joined.steps, names(joined.admitted)) == (1, ["fetches"])
    assert engine.advance(0.0).steps > 1


def test_when_its_kv_cannot_be_fetched_it_computes_the_prompt() -> None:
    engine = small_engine(kv_load_failure_policy=KvLoadFailurePolicy.RECOMPUTE)
    engine.submit(request("before", range(8)), 0.0)
    drain(engine)
    one = remote("a", range(18))
    engine.submit(one, 1.0)
    engine.step(1.0)

    assert engine.kv_failed("a")
    (step,) = drain(engine)

    assert (step.computed_tokens, names(step.finished), one.fetched_tokens) == (10, ["a"], 0)
    assert step.events == [BlocksStored(one, 2, 2)]


def test_or_it_fails_as_is_vllms_default() -> None:
    engine = small_engine()
    one = remote("a", range(18))
    engine.submit(one, 0.0)
    engine.step(0.0)

    assert engine.kv_failed("a")

    assert (one.status, engine.kv_usage, engine.has_work) == (Status.FAILED, 0.0, False)
    assert not engine.kv_arrived("a"), "it is too late"


def test_a_request_that_is_preempted_later_computes_what_it_had_fetched() -> None:
    engine = small_engine(blocks=6, max_len=24, budget=32)
    last = remote("last", range(50, 58), range(9))
    engine.submit(last, 0.0)
    engine.step(0.0)
    engine.submit(request("first", range(8), range(9)), 0.0)
    engine.step(0.0)
    engine.kv_arrived("last")

    steps = drain(engine)

    assert last.preemptions == 1
    assert sum("last" in names(step.emitted) for step in steps) == 9
    assert all(not step.fetching for step in steps)


def test_an_aborted_fetch_frees_its_blocks_and_knows_nothing_of_an_arrival() -> None:
    engine = small_engine()
    engine.submit(remote("a", range(18)), 0.0)
    engine.step(0.0)

    assert engine.abort("a")

    assert (engine.kv_usage, engine.fetching, engine.kv_arrived("a")) == (0.0, 0, False)


def test_blocks_of_a_finished_prefill_are_kept_until_they_are_released() -> None:
    engine = small_engine()
    engine.submit(kept("prefill", range(18)), 0.0)
    drain(engine)
    assert (engine.kept, engine.kv_usage) == (1, 5 / 64)

    assert engine.release("prefill")

    assert (engine.kept, engine.kv_usage) == (0, 0.0)
    assert not engine.release("prefill")
    again = request("again", range(18))
    engine.submit(again, 1.0)
    engine.step(1.0)
    assert again.cached_tokens == 16, "released blocks remain hits"


def test_kept_blocks_are_not_evicted_and_who_needs_them_waits() -> None:
    engine = small_engine(blocks=8, max_len=32)
    engine.submit(kept("prefill", range(18)), 0.0)
    drain(engine)
    engine.submit(request("large", range(50, 70)), 1.0)
    engine.step(1.0)
    assert (engine.waiting, engine.has_work) == (1, False)

    engine.release("prefill")

    assert engine.has_work
    assert names(engine.step(2.0).finished) == ["large"]


def test_a_lease_that_nobody_uses_ends() -> None:
    engine = small_engine(kv_lease_duration_s=30.0)
    engine.submit(kept("prefill", range(18)), 0.0)
    (step,) = drain(engine)

    engine.expire_leases(step.duration_s + 29.9)
    assert (engine.is_kept("prefill"), engine.expired_leases) == (True, 0)
    engine.expire_leases(step.duration_s + 30.0)

    assert (engine.is_kept("prefill"), engine.expired_leases, engine.kv_usage) == (False, 1, 0.0)
    assert not engine.release("prefill")


def test_the_next_step_sees_that_a_lease_has_ended() -> None:
    engine = small_engine(blocks=8, max_len=32)
    engine.submit(kept("prefill", range(18)), 0.0)
    drain(engine)
    engine.submit(request("large", range(50, 70)), 31.0)

    assert names(engine.step(31.0).finished) == ["large"]


def test_only_a_prefill_that_finished_is_kept() -> None:
    engine = small_engine(budget=8)
    engine.submit(kept("prefill", range(18)), 0.0)
    engine.step(0.0)

    engine.abort("prefill")

    assert (engine.kept, engine.kv_usage) == (0, 0.0)


def test_the_id_of_a_kept_request_is_in_use() -> None:
    engine = small_engine()
    engine.submit(kept("a", range(18)), 0.0)
    drain(engine)
    with pytest.raises(ValueError, match="in use"):
        engine.submit(request("a", range(4)), 1.0)


@pytest.mark.parametrize("tokens", [-1, 19])
def test_what_is_fetched_is_a_part_of_the_prompt(tokens: int) -> None:
    engine: Engine = small_engine()
    with pytest.raises(ValueError, match="remote_tokens"):
        engine.submit(remote("a", range(18), tokens=tokens), 0.0)


def test_a_transfer_takes_its_latency_and_its_bytes_over_the_bandwidth() -> None:
    model = TransferModel(bytes_per_token=100_000, bandwidth_bytes_per_s=1e9, latency_s=0.002)
    assert model.seconds(1000) == pytest.approx(0.102)


def test_a_share_of_a_transfer_hides_behind_the_prefill() -> None:
    model = TransferModel(100_000, 1e9, latency_s=0.002, overlap=0.8)
    assert model.seconds(1000, prefill_s=10.0) == pytest.approx(0.022), "all that can leave early has left"
    assert model.seconds(1000, prefill_s=0.03) == pytest.approx(0.072), "a short prefill hides no more than it takes"


@pytest.mark.parametrize("wrong", [{"bytes_per_token": 0}, {"bandwidth_bytes_per_s": 0.0}, {"overlap": 1.1}])
def test_a_transfer_model_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"positive|share"):
        TransferModel(**{"bytes_per_token": 1, **wrong})  # type: ignore[arg-type]
