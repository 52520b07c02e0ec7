"""After ``weft sim calibrate`` the simulated cluster is as fast as the real one. Wants a machine that is else idle."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import pytest
from real_programs import Player
from replicas import Replica, running

from router.core.router import Router
from router.profiles import make_profiles
from sim.cluster import Cluster, ClusterConfig
from sim.engine import Profile, load_profile
from sim.workloads.arrivals import Poisson
from sim.workloads.draw import Lognormal, Range
from sim.workloads.fit import fitting
from sim.workloads.program import Program
from sim.workloads.registry import make_workload
from sim.workloads.tools import ToolUse

BLOCKS = 2000
MAX_MODEL_LEN_TOKENS = 4096
ROUNDS = 3
TOLERANCE = 0.15

WORKLOADS = {
    "chat": {
        "rate_per_s": 1.5,
        "count": 16,
        "system_tokens": Range(200, 200),
        "opening_tokens": Lognormal(400, 0.8, low=10, high=1500),
        "question_tokens": Lognormal(80, 0.8, low=5, high=400),
        "answer_tokens": Lognormal(60, 0.5, low=4, high=200),
        "turns": Lognormal(3, 0.6, low=1, high=8),
        "think_s": Lognormal(2, 0.7, high=8),
    },
    "react": {
        "rate_per_s": 0.6,
        "count": 12,
        "agents": 3,
        "tools_tokens": Range(300, 900),
        "system_tokens": Range(100, 200),
        "task_tokens": Lognormal(100, 0.8, low=20, high=500),
        "turns": Lognormal(4, 0.7, low=1, high=10),
        "answer_tokens": Lognormal(40, 0.6, low=4, high=150),
        "delegation": 0.0,
        "tool": ToolUse(wait_s=Lognormal(1, 0.7, high=4), result_tokens=Lognormal(150, 0.8, high=600)),
    },
}
"""The shapes of the simulator's workloads, cut to what a model for CPUs takes in. Some requests overlap, few wait."""


class Times(NamedTuple):
    """Means over the calls of one run, and the share of prompt tokens that was cached."""

    ttft_s: float
    e2e_s: float
    hit_rate: float


@pytest.fixture(scope="module")
def slow_replica(prepared: None, logs: Path) -> Iterator[Replica]:
    for (replica,) in running([Replica("small", BLOCKS, MAX_MODEL_LEN_TOKENS, logs / "calibrate.log")]):
        yield replica


def calibrated(replica: Replica, out: Path) -> Profile:
    command = [sys.executable, "-m", "router.cli", "sim", "calibrate", replica.url, "--out", str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    print(done.stderr)
    assert done.returncode == 0
    return load_profile(str(out))


def programs_of(name: str) -> list[Program]:
    parameters = dict(WORKLOADS[name])
    rate_per_s, count = parameters.pop("rate_per_s"), parameters.pop("count")
    programs, _ = fitting(make_workload(name, 1, count, Poisson(rate_per_s), **parameters), MAX_MODEL_LEN_TOKENS)
    return programs


def simulated(profile: Profile, programs: list[Program]) -> Times:
    config = ClusterConfig(profile.engine, replicas=1)
    run = Cluster(config, lambda number: Router(make_profiles({}, "default"), seed=number)).run(programs)
    return Times(
        mean(call.ttft_s for call in run.calls),
        mean(call.e2e_s for call in run.calls),
        sum(call.cached_tokens for call in run.calls) / sum(call.prompt_tokens for call in run.calls),
    )


def test_what_the_server_tells_of_its_limits_is_in_the_profile(slow_replica: Replica, tmp_path: Path) -> None:
    engine = calibrated(slow_replica, tmp_path / "calibrated.yaml").engine
    assert (engine.num_blocks, engine.block_size_tokens) == (BLOCKS, 16)
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (32, 2048)
    assert engine.max_model_len_tokens == MAX_MODEL_LEN_TOKENS


@pytest.mark.parametrize("name", WORKLOADS)
async def test_mean_ttft_and_end_to_end_are_those_of_a_real_replica(
    slow_replica, weft, http, figure, tmp_path, name
) -> None:
    """A machine that others use changes its speed within minutes, so it is calibrated before and after."""
    programs = programs_of(name)
    before = simulated(calibrated(slow_replica, tmp_path / "before.yaml"), programs)
    rounds: list[Times] = []
    with weft([slow_replica]) as router:
        for _ in range(ROUNDS):
            slow_replica.empty_cache()
            player = Player(http, router.url, slow_replica.model)
            await player.play(programs)
            served = player.served
            rounds.append(
                Times(
                    mean(call.ttft_s for call in served),
                    mean(call.e2e_s for call in served),
                    sum(call.cached_tokens for call in served) / sum(call.prompt_tokens for call in served),
                )
            )
    after = simulated(calibrated(slow_replica, tmp_path / "after.yaml"), programs)
    expected = Times(*map(mean, zip(before, after, strict=True)))
    for number, what in enumerate(("TTFT", "end-to-end")):
        real_s = [each[number] for each in rounds]
        figure(
            f"mean {what} of {len(served)} calls: simulated "
            f"{before[number] * 1e3:.1f} and {after[number] * 1e3:.1f} ms, real "
            f"{', '.join(f'{one * 1e3:.1f}' for one in sorted(real_s))} ms, "
            f"simulated / median {expected[number] / median(real_s):.2f}"
        )
    figure(f"hit rate: simulated {expected.hit_rate:.1%}, real {', '.join(f'{each.hit_rate:.1%}' for each in rounds)}")
    assert expected.hit_rate == pytest.approx(median(each.hit_rate for each in rounds), abs=0.01)
    assert expected.ttft_s == pytest.approx(median(each.ttft_s for each in rounds), rel=TOLERANCE)
    assert expected.e2e_s == pytest.approx(median(each.e2e_s for each in rounds), rel=TOLERANCE)
