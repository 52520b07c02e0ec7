"""Caches without time: a plain LRU, and facts that are known exactly of a public trace."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from cluster_world import one_call, part, routers
from hypothesis import given
from hypothesis import strategies as st

from router.core.router import Router
from sim.cluster.cache_only import CacheReplay, CacheRun
from sim.cluster.lru_cache import LruCache
from sim.workloads.program import Program
from sim.workloads.traces import load_trace

TRACE = Path(__file__).parents[3] / "shared" / "traces" / "mooncake_conversation.jsonl.gz"
needs_trace = pytest.mark.skipif(
    not TRACE.is_file(), reason="the Mooncake conversation trace is not in ../shared/traces"
)


@given(st.lists(st.lists(st.integers(0, 9), unique=True, max_size=8), max_size=20), st.none() | st.integers(1, 9))
def test_an_lru_keeps_the_blocks_used_last(prompts: list[list[int]], capacity: int | None) -> None:
    lru, order = LruCache(capacity), list[int]()
    for prompt in prompts:
        before = list(order)
        hits, new, evicted = lru.use(prompt)
        order = [block for block in order if block not in prompt] + prompt
        if capacity is not None:
            order = order[-capacity:]
        assert hits == next((i for i, block in enumerate(prompt) if block not in before), len(prompt))
        assert [prompt[i] for i in new] == [block for block in prompt if block not in before]
        # Reported and known before, and gone now: no more and no less.
        assert set(evicted) == {*before, *prompt} - set(order)
        assert len(evicted) == len(set(evicted))


def replay(programs: list[Program], profile: str, replicas: int, blocks: int | None, **scorers: float) -> CacheRun:
    return CacheReplay(routers(profile, **scorers)(0), replicas, blocks).run(programs)


def test_the_rest_of_a_prompt_hits_when_it_is_the_same() -> None:
    same = [one_call(name, part(1, 700)) for name in "ab"]
    longer = one_call("c", part(1, 701))
    run = replay([*same, longer], "round-robin", 1, None)
    assert run.prompt_tokens == [2101]
    assert run.cached_tokens == [700 + 512]


def test_the_router_knows_the_caches() -> None:
    router = routers("round-robin")(0)
    programs = [one_call(str(i), part(i % 3, 512 * (1 + i % 4)), part(50 + i, 512 * 3 + 5)) for i in range(30)]
    caches = CacheReplay(router, 2, 8)
    caches.run(programs)
    for slot, lru in enumerate(caches._caches):
        partial = sum(tokens % 512 > 0 for tokens in [program.steps[0].prompt_tokens for program in programs])
        assert 8 - partial <= router.index.held_blocks(slot) <= len(lru._blocks)
        assert router.in_flight == sum(len(queue) for queue in caches._work)


def test_a_router_that_knows_no_way_out_is_an_error() -> None:
    router = Router(routers()(0).profiles)
    replay = CacheReplay(router, 1, None)
    router.on_replica_gone("0", 0.0)
    with pytest.raises(LookupError, match="refused request 0"):
        replay.run([one_call("a", part(1, 9))])


@cache
def conversation() -> list[Program]:
    return load_trace(TRACE, "mooncake").programs


@needs_trace
@pytest.mark.parametrize(("blocks", "percent"), [(5_859, 13.8), (97_656, 37.1), (None, 37.36)])
def test_mooncake_on_one_replica(blocks: int | None, percent: float) -> None:
    run = replay(conversation(), "round-robin", 1, blocks)
    assert 100 * run.hit_rate == pytest.approx(percent, abs=0.05 if blocks else 0.005)


@needs_trace
@pytest.mark.parametrize(("replicas", "percent"), [(4, 19.6), (8, 13.9), (16, 10.1)])
def test_mooncake_dealt_out_in_turn(replicas: int, percent: float) -> None:
    run = replay(conversation(), "round-robin", replicas, None)
    assert 100 * run.hit_rate == pytest.approx(percent, abs=0.05)


@needs_trace
def test_mooncake_routed_by_prefix_alone_collapses_onto_one_replica() -> None:
    run = replay(conversation(), "max-prefix", 4, None, prefix_cache=1.0)
    assert sorted(run.requests) == [0, 0, 0, 12_031]
    assert run.imbalance == pytest.approx(4.0)


@needs_trace
def test_mooncake_routed_by_prefix_and_load_hits_nearly_all_and_is_even() -> None:
    run = replay(conversation(), "both", 8, None, prefix_cache=1.0, in_flight_tokens=1.0)
    assert 100 * run.hit_rate == pytest.approx(37.3, abs=0.3)
    assert run.imbalance < 1.05
