"""What must hold for any sequence of requests that fetch KV blocks or keep them for others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappop, heappush

from engine_world import STEP_TIME, chained
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.engine import Engine, EngineConfig, KvLoadFailurePolicy, Policy, Request, Status

PS_PER_S = 10**12
LEASE_PS = PS_PER_S // 5


@dataclass
class Plan:
    """What becomes of one request: when it comes, and how its fetch or its lease ends."""

    at_ps: int
    request: Request
    transfer_ps: int
    """From its admission until its KV is here."""
    fails: bool
    fetched_after_ps: int
    """From its end until the other replica has its blocks: possibly too late."""
    aborted_after_ps: int | None


@dataclass
class World:
    """One engine and the events planned for it, in whole picoseconds."""

    engine: Engine
    plans: dict[str, Plan]
    stretches: bool
    now_ps: int = 0
    planned: list[tuple[int, int, str, str]] = field(default_factory=list)
    emitted: Counter[str] = field(default_factory=Counter)
    ends: dict[str, tuple[int, Status]] = field(default_factory=dict)

    def plan(self, at_ps: int, what: str, name: str) -> None:
        heappush(self.planned, (at_ps, len(self.planned), what, name))

    def run(self) -> None:
        for name, plan in self.plans.items():
            self.plan(plan.at_ps, "submit", name)
        while self.planned or self.engine.has_work:
            if not self.engine.has_work:
                self.now_ps = max(self.now_ps, self.planned[0][0])
            while self.planned and self.planned[0][0] <= self.now_ps:
                at_ps, _, what, name = heappop(self.planned)
                self.do(what, name, at_ps)
            self.check()
            if self.engine.has_work:
                self.step()
        self.check()

    def do(self, what: str, name: str, at_ps: int) -> None:
        plan, engine = self.plans[name], self.engine
        match what:
            case "submit":
                engine.submit(plan.request, at_ps / PS_PER_S)
                if plan.aborted_after_ps is not None:
                    self.plan(at_ps + plan.aborted_after_ps, "abort", name)
            case "abort":
                if engine.abort(name):
                    self.ends[name] = at_ps, Status.ABORTED
            case "fetch":
                if plan.fails and engine.kv_failed(name):
                    if plan.request.status is Status.FAILED:
                        self.ends[name] = at_ps, Status.FAILED
                elif not plan.fails:
                    engine.kv_arrived(name)
            case "release":
                engine.release(name)
            case "expire":
                engine.expire_leases(at_ps / PS_PER_S + 1e-9)

    def step(self) -> None:
        now_s = self.now_ps / PS_PER_S
        if self.stretches:
            # Half a picosecond before what comes next: rounding cannot let a step begin at the same moment.
            until_s = (self.planned[0][0] - 0.5) / PS_PER_S if self.planned else float("inf")
            result = self.engine.advance(now_s, until_s)
        else:
            result = self.engine.step(now_s)
        end_ps = self.now_ps + result.duration_ps
        for one in result.fetching:
            self.plan(self.now_ps + self.plans[one.id].transfer_ps, "fetch", one.id)
        for one in result.emitted:
            self.emitted[one.id] += result.steps
        for one in result.finished:
            self.ends[one.id] = end_ps, one.status
            if one.keep_for_transfer:
                self.plan(end_ps + self.plans[one.id].fetched_after_ps, "release", one.id)
                self.plan(end_ps + LEASE_PS, "expire", one.id)
        self.now_ps = end_ps

    def check(self) -> None:
        """Blocks are held by those who run, fetch, have fetched or are kept; by nobody else, and by all of these."""
        scheduler = self.engine._scheduler
        kept = [plan.request for plan in self.plans.values() if self.engine.is_kept(plan.request.id)]
        holding = [*scheduler.running, *scheduler.fetchers, *kept]
        holders = Counter(block for one in holding for block in one.blocks)
        pool = scheduler.cache.pool
        assert {block: count for block, count in enumerate(pool._arrays.blocks["refs"]) if count} == holders
        assert pool.used_blocks == len(holders) <= pool.capacity
        size = self.engine.config.block_size_tokens
        for one in kept:
            full = min(one.prompt_tokens // size, len(one.block_hashes))
            hashes = pool._arrays.blocks["hash"][one.blocks[:full]]
            assert hashes.tolist() == one.block_hashes[:full].tolist(), "kept blocks hold what they held"


@st.composite
def worlds(draw: st.DrawFn) -> tuple[EngineConfig, list[Plan]]:
    block_size = draw(st.sampled_from([1, 4]))
    max_len = 32
    config = EngineConfig(
        STEP_TIME,
        num_blocks=max_len // block_size + 1 + draw(st.integers(0, 30)),
        block_size_tokens=block_size,
        max_num_batched_tokens=draw(st.sampled_from([8, 40])),
        max_num_seqs=draw(st.sampled_from([1, 2, 8])),
        max_model_len_tokens=max_len,
        policy=draw(st.sampled_from(Policy)),
        kv_load_failure_policy=draw(st.sampled_from(KvLoadFailurePolicy)),
        kv_lease_duration_s=LEASE_PS / PS_PER_S,
    )
    delays = st.sampled_from([0, 1_000_003, 20_000_000_033, 300_000_000_007])
    plans, now_ps = [], 0
    for number in range(draw(st.integers(1, 10))):
        now_ps += draw(delays)
        shared = draw(st.integers(0, max_len - 2))
        own = draw(st.integers(1, max_len - 1 - shared))
        role = draw(st.sampled_from(["plain", "prefill", "decode", "decode"]))
        output = 1 if role == "prefill" else draw(st.integers(1, max_len - shared - own))
        tokens = [*[draw(st.integers(0, 1))] * shared, *range(9, 9 + own), *range(output)]
        one = Request(f"r{number}", shared + own, output, chained(tokens, block_size), draw(st.integers(0, 2)))
        one.keep_for_transfer = role == "prefill"
        if role == "decode":
            one.remote_tokens = draw(st.sampled_from([one.prompt_tokens, draw(st.integers(1, one.prompt_tokens))]))
        aborted = draw(delays) if draw(st.integers(0, 7)) == 0 else None
        plans.append(Plan(now_ps, one, draw(delays), draw(st.integers(0, 4)) == 0, draw(delays), aborted))
    return config, plans


def served(config: EngineConfig, plans: list[Plan], *, stretches: bool) -> World:
    copies = {}
    for plan in plans:
        old = plan.request
        one = Request(old.id, old.prompt_tokens, old.output_tokens, old.block_hashes, old.priority)
        one.remote_tokens, one.keep_for_transfer = old.remote_tokens, old.keep_for_transfer
        copies[one.id] = Plan(
            plan.at_ps, one, plan.transfer_ps, plan.fails, plan.fetched_after_ps, plan.aborted_after_ps
        )
    world = World(Engine(config), copies, stretches)
    world.run()
    return world


@settings(deadline=None, max_examples=100)
@given(worlds())
def test_no_block_and_no_token_is_lost(drawn: tuple[EngineConfig, list[Plan]]) -> None:
    config, plans = drawn
    world = served(config, plans, stretches=False)

    assert world.ends.keys() == world.plans.keys(), "everything ends"
    assert world.engine._scheduler.cache.pool.used_blocks == 0
    for name, (_, status) in world.ends.items():
        one = world.plans[name].request
        if status is Status.FINISHED:
            assert world.emitted[name] == one.output_tokens
        assert one.fetched_tokens + one.cached_tokens <= one.prompt_tokens


@settings(deadline=None, max_examples=100)
@given(worlds())
def test_a_stretch_is_as_many_single_steps(drawn: tuple[EngineConfig, list[Plan]]) -> None:
    config, plans = drawn
    single, stretched = served(config, plans, stretches=False), served(config, plans, stretches=True)

    assert stretched.ends == single.ends
    assert stretched.emitted == single.emitted
    assert stretched.engine._scheduler.cache.pool.free_queue() == single.engine._scheduler.cache.pool.free_queue()
