"""llm-d's ladder of request rates on the simulated cluster, next to what llm-d published for real GPUs.

    python benchmarks/ladder.py [--policies A,B] [--quick] [--rungs] [--json FILE] [--in-flight N] [--kv-tokens N]
                                [--decode-time X] [--prefill-time X]

The published run is llm-d-kv-cache's benchmarking/73-capacity/README.md: 8 replicas of Qwen3-32B, 307,328 tokens of KV
memory each in blocks of 64, inference-perf sending 150 groups of 5 prompts at 3 to 60 requests a second. inference-perf
ends each rung before it begins the next (loadgen/load_generator.py), starts its list of prompts anew, and has a limit
of requests in flight. That limit is not published: ``--in-flight`` is 800 by default, see docs/simulator.md; 0 means
none. As in the README, the result is the mean over the 16 rungs after a warm-up. ``--decode-time`` and
``--prefill-time`` multiply the engine profile's. ``--quick`` takes a quarter of memory, prompts and rates.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count, islice
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from random import Random

from sim.cluster import CallRecord, Cluster, ClusterConfig, Link
from sim.engine import EngineConfig, load_profile
from sim.policies.catalogue import POLICIES
from sim.policies.policy import Policy, World
from sim.workloads.arrivals import Ladder, Poisson
from sim.workloads.hints import no_hint
from sim.workloads.program import Program
from sim.workloads.shared_prefix import SharedPrefix

PROFILE = "qwen3-32b-2xh100"
BLOCK_SIZE_TOKENS = 64
QUEUE_AND_KV = ({"name": "queue-depth"}, {"name": "kv-utilisation"})


@dataclass(slots=True, frozen=True)
class Contestant:
    policy: Policy
    output_tokens_per_s: float | None = None
    """Published."""
    ttft_p90_s: float | None = None
    """Mean over the rungs of the published table."""


def _contestants() -> dict[str, Contestant]:
    approximate = Policy(
        "llm-d-approximate",
        "prefix 1, queue 1, KV utilisation 1, by what the router sent",
        {"scorers": [{"name": "prefix-cache"}, *QUEUE_AND_KV]},
        kv_events=False,
    )
    load = Policy("llm-d-load", "queue 1, KV utilisation 1", {"scorers": list(QUEUE_AND_KV)}, kv_events=False)
    listed = (
        Contestant(POLICIES["llm-d"], 8730, 0.536),
        Contestant(approximate, 6944, 23.9),
        Contestant(POLICIES["random"], 4429, 77.7),
        Contestant(load, 4266, 79.8),
        Contestant(POLICIES["least-load"]),
        Contestant(replace(POLICIES["llm-d"], name="llm-d-without-events", kv_events=False)),
        Contestant(POLICIES["weft"]),
    )
    return {contestant.policy.name: contestant for contestant in listed}


CONTESTANTS = _contestants()


@dataclass(slots=True, frozen=True)
class Setup:
    """A fleet and what it is asked. The first step of the ladder warms up and is not counted."""

    replicas: int = 8
    groups: int = 150
    steps: tuple[tuple[float, float], ...] = field(default_factory=lambda: Ladder().steps)
    """(requests per second, seconds) of each."""
    in_flight: int | None = 800
    kv_tokens: int = 307_328
    decode_time: float = 1.0
    prefill_time: float = 1.0

    def scaled_down(self, parts: int) -> Setup:
        """Each replica with one of so many equal parts of its memory and its requests."""
        return replace(
            self,
            groups=self.groups // parts,
            steps=tuple((rate / parts, duration_s) for rate, duration_s in self.steps),
            in_flight=self.in_flight and self.in_flight // parts,
            kv_tokens=self.kv_tokens // parts,
        )

    @property
    def engine(self) -> EngineConfig:
        engine = load_profile(PROFILE).engine
        times = engine.step_time
        slowed = replace(
            times,
            fixed_ps=round(times.fixed_ps * self.decode_time),
            context_token_ps=round(times.context_token_ps * self.decode_time),
            prefill_token_ps=round(times.prefill_token_ps * self.prefill_time),
            attention_pair_ps=round(times.attention_pair_ps * self.prefill_time),
        )
        blocks = self.kv_tokens // BLOCK_SIZE_TOKENS + 1
        return replace(engine, step_time=slowed, num_blocks=blocks, block_size_tokens=BLOCK_SIZE_TOKENS)


@dataclass(slots=True, frozen=True)
class Rung:
    rate_per_s: float
    output_tokens_per_s: float
    ttft_mean_s: float
    ttft_p90_s: float
    token_gap_s: float
    """Between two output tokens of a request, on average."""
    hit_rate: float


def climb(policy: Policy, setup: Setup, seed: int = 0) -> list[Rung]:
    """Send the ladder step after step, each when all of the one before has been answered."""
    engine = setup.engine
    config = ClusterConfig(engine, setup.replicas, kv_events=Link() if policy.kv_events else None)
    prompts = list(_prompts(setup.groups, seed))
    world = World(prompts, engine, setup.replicas)
    cluster = Cluster(config, lambda number: policy.make_router(world, seed + number), seed=seed, hint=no_hint)
    answers = count(1 << 40)
    rungs = []
    for number, (rate_per_s, duration_s) in enumerate(setup.steps):
        requests = list(
            _requests(prompts, rate_per_s, int(rate_per_s * duration_s), Random(f"{seed}/{number}"), answers)
        )
        rungs.append(_rung(rate_per_s, cluster.run(requests, setup.in_flight).calls))
    return rungs[1:]


def _prompts(groups: int, seed: int) -> Iterator[Program]:
    workload = SharedPrefix(groups=groups)
    return islice(workload.programs(seed, count()), groups * workload.prompts_per_group)


def _requests(
    prompts: list[Program], rate_per_s: float, requests: int, rng: Random, answers: Iterator[int]
) -> Iterator[Program]:
    """The prompts from the first on, over and over, each time with another answer."""
    for number, arrival_s in enumerate(Poisson(rate_per_s).times_s(requests, rng)):
        prompt = prompts[number % len(prompts)]
        (step,) = prompt.steps
        asked = replace(step, answer_stream=next(answers))
        yield replace(prompt, id=f"request-{number}", arrival_s=arrival_s, steps=(asked,))


def _rung(rate_per_s: float, calls: list[CallRecord]) -> Rung:
    ttft_s = sorted(call.ttft_s for call in calls)
    began_s, ended_s = min(call.sent_s for call in calls), max(call.ended_s for call in calls)
    return Rung(
        rate_per_s,
        output_tokens_per_s=sum(call.output_tokens for call in calls) / (ended_s - began_s),
        ttft_mean_s=sum(ttft_s) / len(calls),
        ttft_p90_s=ttft_s[ceil(0.9 * len(calls)) - 1],
        token_gap_s=sum(call.tpot_s or 0.0 for call in calls) / len(calls),
        hit_rate=sum(call.cached_tokens for call in calls) / sum(call.prompt_tokens for call in calls),
    )


def mean(rungs: list[Rung], name: str) -> float:
    values: list[float] = [getattr(rung, name) for rung in rungs]
    return sum(values) / len(values)


def report(contestant: Contestant, rungs: list[Rung], each: bool) -> None:
    figures = [
        f"{mean(rungs, 'output_tokens_per_s'):10,.0f}",
        f"{contestant.output_tokens_per_s or '':>10}",
        f"{mean(rungs, 'ttft_p90_s'):10.3f}",
        f"{contestant.ttft_p90_s or '':>10}",
        f"{mean(rungs, 'hit_rate'):9.1%}",
    ]
    print(f"{contestant.policy.name:<21}", *figures, flush=True)
    for rung in rungs if each else ():
        print(
            f"{rung.rate_per_s:>19g}/s {rung.output_tokens_per_s:11,.0f} {'':10} {rung.ttft_p90_s:10.3f} {'':10}"
            f" {rung.hit_rate:8.1%}, TTFT mean {rung.ttft_mean_s:.3f} s, {1000 * rung.token_gap_s:.1f} ms a token"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", default=",".join(CONTESTANTS), help=f"some of {', '.join(CONTESTANTS)}")
    parser.add_argument("--quick", action="store_true", help="a quarter of memory, prompts and rates")
    parser.add_argument("--rungs", action="store_true", help="show each rung")
    parser.add_argument("--json", type=Path, help="write all rungs there")
    parser.add_argument("--in-flight", type=int, default=800, help="requests at a time, 0 for no limit (800)")
    parser.add_argument("--kv-tokens", type=int, default=307_328, help="KV memory of a replica (307,328)")
    parser.add_argument("--decode-time", type=float, default=1.0, help="times the profile's (1)")
    parser.add_argument("--prefill-time", type=float, default=1.0, help="times the profile's (1)")
    options = parser.parse_args()
    names = [name.strip() for name in options.policies.split(",")]
    if strange := [name for name in names if name not in CONTESTANTS]:
        parser.error(f"no policy {', '.join(strange)}: there are {', '.join(CONTESTANTS)}")
    setup = Setup(
        in_flight=options.in_flight or None,
        kv_tokens=options.kv_tokens,
        decode_time=options.decode_time,
        prefill_time=options.prefill_time,
    )
    setup = setup.scaled_down(4) if options.quick else setup
    if options.in_flight < 0 or min(options.decode_time, options.prefill_time) <= 0:
        parser.error("--in-flight must not be negative, and the times must be above 0")
    try:
        _ = setup.engine
    except ValueError as error:
        parser.error(f"--kv-tokens: {error}")
    print(f"{'':21} {'tok/s out':>10} {'published':>10} {'TTFT p90 s':>10} {'published':>10} {'hit rate':>9}")
    results = {}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        climbing = {name: processes.submit(climb, CONTESTANTS[name].policy, setup) for name in names}
        for name, future in climbing.items():
            results[name] = future.result()
            report(CONTESTANTS[name], results[name], options.rungs)
    if options.json:
        rows = {name: [_as_row(rung) for rung in rungs] for name, rungs in results.items()}
        options.json.write_text(json.dumps(rows, indent=1))


def _as_row(rung: Rung) -> dict[str, float]:
    return {name: getattr(rung, name) for name in Rung.__slots__}


if __name__ == "__main__":
    main()
