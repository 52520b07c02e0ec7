"""What must hold for any sequence of requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from engine_world import STEP_TIME, chained
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.engine import BlocksStored, Engine, EngineConfig, KvEvent, Policy, Request, StepResult


@dataclass
class Scenario:
    """A configuration and a list of (time, request or id to abort)."""

    config: EngineConfig
    arrivals: list[tuple[float, Request | str]] = field(default_factory=list)


@st.composite
def scenarios(draw: st.DrawFn, aborts: bool = True) -> Scenario:
    block_size = draw(st.sampled_from([1, 2, 4, 16]))
    max_len = draw(st.sampled_from([24, 48])) * max(1, block_size // 2)
    seqs = draw(st.sampled_from([1, 2, 4, 16]))
    config = EngineConfig(
        STEP_TIME,
        num_blocks=-(-max_len // block_size) + 1 + draw(st.integers(0, 60)),
        block_size_tokens=block_size,
        max_num_batched_tokens=max(seqs, draw(st.sampled_from([8, 40, 200]))),
        max_num_seqs=seqs,
        max_model_len_tokens=max_len,
        policy=draw(st.sampled_from(Policy)),
    )
    scenario = Scenario(config)
    now = 0.0
    trunks = [[trunk] * max_len for trunk in range(2)]
    for number in range(draw(st.integers(1, 12))):
        now += draw(st.sampled_from([0.0, 0.0, 0.02, 0.3]))
        shared = draw(st.integers(0, max_len - 2))
        own = draw(st.integers(1, max_len - 1 - shared))
        output = draw(st.integers(1, max_len - shared - own))
        tokens = [*draw(st.sampled_from(trunks))[:shared], *range(9, 9 + own), *range(output)]
        hashes = chained(tokens, block_size)
        one = Request(f"r{number}", shared + own, output, hashes, draw(st.integers(0, 2)))
        scenario.arrivals.append((now, one))
        if aborts and draw(st.integers(0, 5)) == 0:
            now += draw(st.sampled_from([0.0, 0.02]))
            scenario.arrivals.append((now, f"r{draw(st.integers(0, number))}"))
    return scenario


def copies(scenario: Scenario) -> list[tuple[float, Request | str]]:
    return [(at, one if isinstance(one, str) else fresh(one)) for at, one in scenario.arrivals]


def fresh(one: Request) -> Request:
    return Request(one.id, one.prompt_tokens, one.output_tokens, one.block_hashes, one.priority)


@dataclass
class Outcome:
    engine: Engine
    requests: list[Request]
    results: list[tuple[int, StepResult]]
    """(picoseconds at which it began, result)"""


def run(scenario: Scenario, *, stretches: bool) -> Outcome:
    """Serve the scenario in virtual time, by single steps or by stretches."""
    engine, todo = Engine(scenario.config), copies(scenario)
    requests = [one for _, one in todo if isinstance(one, Request)]
    results: list[tuple[int, StepResult]] = []
    now_ps = 0
    while todo or engine.has_work:
        if not engine.has_work:
            now_ps = max(now_ps, round(todo[0][0] * 1e12))
        while todo and round(todo[0][0] * 1e12) <= now_ps:
            at, one = todo.pop(0)
            if isinstance(one, Request):
                engine.submit(one, at)
            else:
                engine.abort(one)
        until_s = round(todo[0][0] * 1e12) if todo else None
        if stretches:
            # Whole picoseconds as a clock keep the horizon free of rounding.
            horizon_s = float("inf") if until_s is None else (until_s - now_ps) / 1e12
            result = engine.advance(0.0, horizon_s)
        else:
            result = engine.step(0.0)
        results.append((now_ps, result))
        now_ps += result.duration_ps
    return Outcome(engine, requests, results)


def pool_state(engine: Engine) -> tuple[object, ...]:
    pool = engine._scheduler.cache.pool
    return pool.free_queue(), *(array.tolist() for array in pool._arrays)


def flat_events(outcome: Outcome) -> list[tuple[object, ...]]:
    return [named(event) for _, result in outcome.results for event in result.events]


def events_by_result(cut: Outcome, outcome: Outcome) -> list[tuple[list[int], Counter[tuple[str, int]]]]:
    """Hashes removed, in order, and blocks stored, of the steps that each result of ``cut`` stands for."""
    results, told = iter(outcome.results), []
    for began_ps, result in cut.results:
        removed: list[int] = []
        stored: Counter[tuple[str, int]] = Counter()
        end_ps = began_ps + result.duration_ps
        while began_ps < end_ps:
            _, part = next(results)
            began_ps += part.duration_ps
            for event in part.events:
                if isinstance(event, BlocksStored):
                    stored.update((event.request.id, event.first_block + i) for i in range(event.blocks))
                else:
                    removed += event[0].tolist()
        told.append((removed, stored))
    return told


def named(event: KvEvent) -> tuple[object, ...]:
    if isinstance(event, BlocksStored):
        return "stored", event.request.id, event.first_block, event.blocks
    return (type(event).__name__, *(hashes.tolist() for hashes in event))


@settings(deadline=None)
@given(scenarios())
def test_a_stretch_is_as_many_single_steps(scenario: Scenario) -> None:
    single, stretched = run(scenario, stretches=False), run(scenario, stretches=True)

    def end_ps(outcome: Outcome) -> int:
        return sum(outcome.results[-1][0:1]) + outcome.results[-1][1].duration_ps

    def finishes(outcome: Outcome) -> list[tuple[int, str]]:
        return [(began + result.duration_ps, one.id) for began, result in outcome.results for one in result.finished]

    assert end_ps(stretched) == end_ps(single)
    assert finishes(stretched) == finishes(single)
    assert events_by_result(stretched, stretched) == events_by_result(stretched, single)
    assert pool_state(stretched.engine) == pool_state(single.engine)
    assert sum(r.steps for _, r in stretched.results) == sum(r.steps for _, r in single.results)
    for one, other in zip(stretched.requests, single.requests, strict=True):
        assert (one.status, one.cached_tokens, one.preemptions, one.total_tokens) == (
            (other.status, other.cached_tokens, other.preemptions, other.total_tokens)
        )


@settings(deadline=None)
@given(scenarios(aborts=False))
def test_no_request_is_lost_and_work_is_conserved(scenario: Scenario) -> None:
    outcome = run(scenario, stretches=False)
    emitted = Counter(one.id for _, result in outcome.results for one in result.emitted)
    for one in outcome.requests:
        assert one.status.name == "FINISHED"
        assert emitted[one.id] == one.output_tokens
    if not outcome.engine.preemptions:
        computed = sum(result.computed_tokens for _, result in outcome.results)
        assert computed == sum(one.total_tokens - 1 - one.cached_tokens for one in outcome.requests)


@settings(deadline=None)
@given(scenarios())
def test_blocks_are_held_by_those_who_run_and_by_nobody_else(scenario: Scenario) -> None:
    engine, todo = Engine(scenario.config), copies(scenario)
    pool = engine._scheduler.cache.pool
    while todo or engine.has_work:
        if todo:
            _, one = todo.pop(0)
            if isinstance(one, Request):
                engine.submit(one, 0.0)
            else:
                engine.abort(one)
        engine.step(0.0)
        running = engine._scheduler.running
        holders = Counter(block for one in running for block in one.blocks)
        assert {block: count for block, count in enumerate(pool._arrays.blocks["refs"]) if count} == holders
        assert set(pool.free_queue()) | set(holders) == set(range(1, scenario.config.num_blocks))
        assert pool.used_blocks == len(holders)
        written = Counter(block for one in running for block in one.blocks[one.hashed_blocks :])
        assert all(count == 1 for count in written.values()), "a block being written has one owner"
    assert pool.used_blocks == 0


@settings(deadline=None)
@given(scenarios())
def test_nothing_computed_is_computed_again_while_it_is_cached(scenario: Scenario) -> None:
    """Replays the events: a request must have found every leading block that was stored and not removed."""
    outcome = run(scenario, stretches=False)
    block_size = scenario.config.block_size_tokens
    held: Counter[int] = Counter()
    for _, result in outcome.results:
        before = held.copy()
        for event in result.events:
            match event:
                case BlocksStored(one, first, blocks):
                    held.update(one.block_hashes[first : first + blocks])
                case _:
                    held.subtract(event[0])
        for one in result.admitted:
            if one.preemptions or one.status.name == "ABORTED":
                continue
            lookups = one.block_hashes[: (one.prompt_tokens - 1) // block_size]
            expected = next((i for i, h in enumerate(lookups) if not before[h]), len(lookups))
            if not any(not isinstance(event, BlocksStored) for event in result.events):
                assert one.cached_tokens >= expected * block_size
    assert all(count >= 0 for count in held.values())


@settings(deadline=None)
@given(scenarios(aborts=False))
def test_one_at_a_time_it_is_an_lru_of_prefixes(scenario: Scenario) -> None:
    """Cached tokens equal those of a plain LRU list of hashes, tails first."""
    config = scenario.config
    engine = Engine(config)
    recency: list[int] = []  # least recently used first
    for _, one in scenario.arrivals:
        assert isinstance(one, Request)
        if len(set(one.block_hashes)) != len(one.block_hashes):
            continue
        request = fresh(one)
        lookups = request.block_hashes[: (request.prompt_tokens - 1) // config.block_size_tokens]
        expected = next((i for i, h in enumerate(lookups) if h not in recency), len(lookups))
        engine.submit(request, 0.0)
        while engine.has_work:
            engine.step(0.0)
        assert request.cached_tokens == expected * config.block_size_tokens

        written = request.prompt_tokens + request.output_tokens - 1
        full = request.block_hashes[: written // config.block_size_tokens].tolist()
        blocks = -(-written // config.block_size_tokens)
        recency = [h for h in recency if h not in full[:expected]]
        twins = [h for h in full[expected:] if h in recency]
        if twins:
            return  # a block stored twice takes two places: the pool's own test covers that
        excess = max(0, len(recency) + blocks - config.usable_blocks)
        recency = recency[excess:] + full[::-1]


@settings(deadline=None)
@given(scenarios())
def test_equal_input_gives_equal_results(scenario: Scenario) -> None:
    one, two = run(scenario, stretches=True), run(scenario, stretches=True)
    assert flat_events(one) == flat_events(two)
    assert [result.duration_ps for _, result in one.results] == [r.duration_ps for _, r in two.results]
