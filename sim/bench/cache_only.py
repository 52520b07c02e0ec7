"""A run without time: all calls through the caches alone, one after the other (``sim.cluster.cache_only``).

Calls come in the order in which a fleet would send them that is idle and has every prompt cached: programs that run at
the same time take turns. Nothing waits in the router.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sim.bench.job import Job
from sim.bench.measure import Row
from sim.bench.measure_fairness import decode_s
from sim.cluster.cache_only import CacheReplay
from sim.engine import StepTime
from sim.policies.catalogue import POLICIES
from sim.policies.policy import World, no_queue
from sim.workloads.program import Program


def replay(job: Job, programs: Sequence[Program]) -> Row:
    setting = job.setting
    policy = replace(POLICIES[job.policy], make_flow=no_queue)
    router = policy.make_router(World(programs, setting.engine, setting.replicas), job.seed)
    caches = CacheReplay(
        router, setting.replicas, job.cache_blocks, setting.engine.block_size_tokens, kv_events=policy.kv_events
    )
    run = caches.run(single_calls(programs, setting.engine.step_time))
    return {
        "replicas": setting.replicas,
        "requests": sum(run.requests),
        "programs": len(programs),
        "prompt_tokens": sum(run.prompt_tokens),
        "prefix_hit_rate": run.hit_rate,
        "imbalance": run.imbalance,
    }


def single_calls(programs: Sequence[Program], step_time: StepTime) -> list[Program]:
    """Each call as a program of its own, of the same name, in the order in which they are sent."""
    sent: list[tuple[float, int, Program]] = []
    for program in programs:
        ends_s: dict[str, float] = {}
        for step in program.steps:
            sent_s = max((ends_s[name] for name in step.after), default=program.arrival_s) + step.wait_s
            ends_s[step.name] = sent_s + decode_s(step, step_time)
            sent.append((sent_s, len(sent), replace(program, steps=(step,))))
    return [program for _, _, program in sorted(sent, key=lambda entry: entry[:2])]
