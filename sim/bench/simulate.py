"""Runs one job of the grid: programs, a fleet and a policy in, a row of results out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sim.bench.arriving import Arrival, arriving
from sim.bench.cache_only import replay
from sim.bench.gantt import follow
from sim.bench.job import Job
from sim.bench.measure import Row, measure
from sim.bench.window import middle
from sim.cluster import Cluster, ClusterConfig, Link, Run
from sim.engine import EngineConfig
from sim.policies.catalogue import POLICIES
from sim.policies.policy import Policy, World
from sim.workloads.hints import Hint, make_hint
from sim.workloads.program import Program

_ROUTERS_AT_MOST = 1000
"""Seeds of the routers of two runs do not meet."""


@dataclass(slots=True)
class Outcome:
    row: Row
    cost: Row | None = None
    """What the routers' decisions cost in CPU time, which differs from run to run."""
    followed: Row | None = None
    """A program's steps."""


def simulate(job: Job) -> Outcome:
    """Equal jobs give equal rows. Raises ValueError when the job asks for what cannot be."""
    setting = job.setting
    arrival = arriving(job.source, job.seed, setting, job.load)
    row: Row = {
        "workload": job.source.name,
        "policy": job.policy,
        "load": job.load,
        "seed": job.seed,
        "cache_blocks": job.cache_blocks,
        "block_size_tokens": setting.engine.block_size_tokens,
        "offered_load": arrival.offered_load,
        "in_flight": setting.in_flight,
        "dropped_requests": arrival.dropped_requests,
    }
    if setting.cache_only:
        return Outcome(row | replay(job, arrival.programs))
    engine = engine_with_cache(setting.engine, job.cache_blocks, arrival)
    run = _serve(job, engine, arrival.programs)
    counted = middle(run, setting.warm_up, setting.cool_down)
    row |= measure(run, engine.step_time, setting.slo, counted)
    cost: Row = {"decisions": run.router_cost.decisions, "decision_us": run.router_cost.decision_us}
    return Outcome(row, cost, follow(run) if job.follows else None)


def _serve(job: Job, engine: EngineConfig, programs: Sequence[Program]) -> Run:
    setting, policy = job.setting, POLICIES[job.policy]
    transfer = setting.transfer
    world = World(programs, engine, setting.replicas, None if transfer is None else transfer.bytes_per_token)
    config = ClusterConfig(
        engine,
        setting.replicas,
        setting.routers,
        kv_events=Link() if policy.kv_events else None,
        roles=setting.roles,
        transfer=transfer,
        transfer_failures=setting.transfer_failures,
    )
    cluster = Cluster(
        config,
        lambda number: policy.make_router(world, job.seed * _ROUTERS_AT_MOST + number),
        seed=job.seed,
        hint=_hint(job, policy),
    )
    return cluster.run(programs, setting.in_flight)


def _hint(job: Job, policy: Policy) -> Hint:
    """What clients tell, or what the policy cannot do without."""
    if policy.hints is not None:
        return make_hint(policy.hints, job.seed)
    return make_hint(job.setting.hints, job.seed, job.setting.hint_share)


def engine_with_cache(engine: EngineConfig, cache_blocks: int | None, arrival: Arrival) -> EngineConfig:
    """``cache_blocks`` None: room for twice every distinct token of the workload and for what each request leaves over
    in its last block, which is more than a replica is ever sent."""
    if cache_blocks == engine.usable_blocks:
        return engine
    if cache_blocks is None:
        work = arrival.work
        tokens = 2 * (work.prefill_tokens + work.output_tokens) + engine.max_model_len_tokens
        cache_blocks = tokens // engine.block_size_tokens + work.requests
    return replace(engine, num_blocks=cache_blocks + 1)
