"""Advice on how many replicas should prefill and how many decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from bench_world import Inline
from click.testing import CliRunner, Result

from sim.advise import command as advise
from sim.advise.demand import Demand, batch_within, demand
from sim.advise.show import reckoning, verdict
from sim.advise.split import ALL_BOTH, Split, neighbours, propose
from sim.advise.trial import Trial, best, try_splits
from sim.bench.finished import Finished
from sim.bench.job import Job, Setting
from sim.bench.measure import Row
from sim.bench.simulate import Outcome
from sim.bench.source import Generated
from sim.engine import TransferModel, load_profile
from sim.workloads.draw import Range
from sim.workloads.offered import offered_work
from sim.workloads.registry import make_workload

ENGINE = load_profile("llama-3.1-8b-1xh100").engine
TRANSFER = TransferModel(131_072)


def uniform(prompt_tokens: int, answer_tokens: int) -> Demand:
    """100 such requests within 10 s."""
    prompt, answer = Range(prompt_tokens, prompt_tokens), Range(answer_tokens, answer_tokens)
    work = offered_work(make_workload("uniform", 1, 100, prompt_tokens=prompt, answer_tokens=answer), ENGINE)
    return demand(work, 10.0, ENGINE, TRANSFER, tpot_s=0.05)


def test_prompts_keep_replicas_busy_for_as_long_as_they_take_to_compute() -> None:
    prompt_s = 0.0068 + 4000 * 28.2e-6 + 4000 * 4001 / 2 * 1.06e-9 + 4000 * 50.8e-9
    assert uniform(4000, 100).prefill == pytest.approx(100 * prompt_s / 10, rel=0.01)


def test_longer_answers_take_more_decode_replicas_and_no_more_prefill_replicas() -> None:
    short, long = uniform(4000, 100), uniform(4000, 400)
    assert long.prefill == short.prefill
    assert long.decode > 3.5 * short.decode


def test_prefixes_that_programs_share_are_computed_and_sent_once() -> None:
    apart = offered_work(make_workload("shared-prefix", 1, 40, groups=40, prompts_per_group=1), ENGINE)
    shared = offered_work(make_workload("shared-prefix", 1, 40, groups=1, prompts_per_group=40), ENGINE)
    one, other = (demand(work, 10.0, ENGINE, TRANSFER, 0.05) for work in (apart, shared))
    assert other.prefill < one.prefill / 3
    assert other.kv_bytes_per_s < one.kv_bytes_per_s / 3


def test_a_batch_is_as_large_as_memory_and_the_time_for_a_token_allow() -> None:
    work = offered_work(make_workload("uniform", 1, 100), ENGINE)
    in_memory = batch_within(work, ENGINE, tpot_s=10.0)
    assert in_memory == pytest.approx(ENGINE.usable_blocks * 16 / work.held_tokens)
    assert batch_within(work, ENGINE, tpot_s=0.015) < in_memory
    assert batch_within(work, ENGINE, tpot_s=0.001) == 1
    assert batch_within(work, replace(ENGINE, max_num_seqs=4), tpot_s=10.0) == 4


def needs(prefill: float, decode: float) -> Demand:
    return Demand(prefill, decode, batch=64.0, kv_bytes_per_s=1e9)


@pytest.mark.parametrize(
    ("prefill", "decode", "split"),
    [(2.4, 3.2, (4, 4)), (0.1, 6.0, (1, 7)), (6.0, 0.1, (7, 1)), (1.2, 4.8, (2, 6))],
)
def test_replicas_are_split_so_that_neither_pool_is_strained(
    prefill: float, decode: float, split: tuple[int, int]
) -> None:
    assert propose(needs(prefill, decode), 8) == split


def test_a_split_leaves_each_pool_a_replica() -> None:
    assert neighbours(Split(2, 2)) == [Split(1, 3), Split(3, 1)]
    assert neighbours(Split(1, 1)) == []


JOB = Job(Setting(ENGINE, replicas=8), Generated("uniform", 10), "weft", 0.7, 1, None)


def simulated(best_prefill: int, tried: list[Split], both_s: float = 100.0):  # type: ignore[no-untyped-def]
    """Runs in which completion is the longer, the further a split is from the best."""

    def run(jobs: Sequence[Job]) -> Iterator[Finished]:
        for job in jobs:
            split = Split(job.setting.prefill, job.setting.decode)
            tried.append(split)
            completion_s = both_s if split == ALL_BOTH else 10.0 + abs(split.prefill - best_prefill)
            row: Row = {"goodput_fraction": 1.0, "completion_mean_s": completion_s, "ttft_mean_s": 0.1}
            yield Finished(job, Outcome(row))

    return run


def test_the_neighbours_of_a_split_and_the_fleet_without_roles_are_tried() -> None:
    tried: list[Split] = []
    trials = try_splits(Split(4, 4), [JOB], TRANSFER, simulated(4, tried))
    assert sorted(tried) == [ALL_BOTH, Split(3, 5), Split(4, 4), Split(5, 3)]
    assert [trial.split for trial in trials] == sorted(tried)
    assert best(trials).split == Split(4, 4)


def test_it_goes_on_while_the_best_split_has_an_untried_neighbour() -> None:
    tried: list[Split] = []
    trials = try_splits(Split(2, 6), [JOB], TRANSFER, simulated(6, tried))
    assert best(trials).split == Split(6, 2)
    assert len(tried) == len(set(tried)) == 8, "each once, and all of them but for none beyond the last"


def test_each_split_is_run_with_each_seed_and_judged_by_the_mean() -> None:
    tried: list[Split] = []
    seeds = [JOB, replace(JOB, seed=2)]
    trials = try_splits(Split(4, 4), seeds, TRANSFER, simulated(4, tried))
    assert len(tried) == 8
    assert all(len(trial.rows) == 2 for trial in trials)


def test_a_run_that_fails_is_an_error() -> None:
    def run(jobs: Sequence[Job]) -> Iterator[Finished]:
        yield Finished(jobs[0], None, "Traceback\nValueError: no room")

    with pytest.raises(ValueError, match="no room"):
        try_splits(Split(1, 1), [JOB], TRANSFER, run)


def trial(split: Split, good: float, completion_s: float) -> Trial:
    return Trial(split, ({"goodput_fraction": good, "completion_mean_s": completion_s, "ttft_mean_s": 0.25},))


def test_requests_in_time_count_before_completion() -> None:
    late, slow = trial(Split(1, 3), 0.8, 5.0), trial(Split(2, 2), 0.95, 9.0)
    quick = trial(Split(3, 1), 0.948, 8.0)
    assert best([late, slow, quick]) is quick, "95 % are 95 %"


def test_the_verdict_names_the_split_and_what_the_others_cost() -> None:
    trials = [trial(ALL_BOTH, 0.9, 9.0), trial(Split(1, 3), 0.95, 8.0), trial(Split(2, 2), 0.99, 6.0)]
    said = verdict(trials, Split(1, 3))
    assert "Take 2 prefill and 2 decode replicas, not 1 + 3 as reckoned." in said
    assert "With all replicas in both roles: requests in time 90.0% instead of 99.0%" in said
    assert "With 1 + 3: requests in time 95.0% instead of 99.0%, completion 8.00 s instead of 6.00 s" in said


def test_the_verdict_can_be_not_to_split() -> None:
    trials = [trial(ALL_BOTH, 0.99, 5.0), trial(Split(1, 3), 0.95, 8.0)]
    assert verdict(trials, Split(1, 3)).startswith("Leave all replicas in both roles")


def test_the_reckoning_tells_what_it_is_made_of() -> None:
    said = reckoning(needs(1.234, 2.5), Split(2, 6), TRANSFER)
    assert "prompts keep 1.23 replicas busy and answers 2.50 (64 at once on each)" in said
    assert "nearest with 2 + 6" in said
    assert "2.0% of each prefill replica's network" in said


SMALL = ("--workload", "uniform", "--programs", "8", "--replicas", "3", "--seeds", "1")


def weft_advise(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> Result:
    monkeypatch.setattr(advise, "Workers", lambda count: Inline())
    given = [str(each) for each in arguments]
    return CliRunner().invoke(advise.command, given, catch_exceptions=False, env={"COLUMNS": "200"})


def test_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = weft_advise(monkeypatch, *SMALL)
    assert result.exit_code == 0, result.output
    lines = [line.split()[:3] for line in result.output.splitlines()]
    assert {"1 + 2", "2 + 1"} <= {" ".join(line) for line in lines}
    assert ["all", "both"] in [line[:2] for line in lines]
    assert "By the profile, prompts keep" in result.output
    assert "Take " in result.output or "Leave " in result.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--workload", "uniform,chat"), "one workload at one load"),
        (("--workload", "uniform", "--load", "0.5,0.7"), "one workload at one load"),
        (("--workload", "nothing"), "nothing"),
        ((), "say what to run"),
    ],
)
def test_what_cannot_be_advised_on_is_said(monkeypatch: pytest.MonkeyPatch, options: Sequence[str], says: str) -> None:
    result = weft_advise(monkeypatch, *options)
    assert result.exit_code == 2
    assert says in result.output
