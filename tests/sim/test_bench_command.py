"""`weft bench` as a person runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from bench_world import SMALL, Inline, inline, results_in, rows_in, weft_bench
from click.testing import CliRunner

from router.cli import cli
from sim.bench import command as bench
from sim.bench.finished import Finished
from sim.bench.job import Job

__all__ = ["inline"]

TRACE = Path(__file__).parents[3] / "shared" / "traces" / "mooncake_conversation.jsonl.gz"
needs_trace = pytest.mark.skipif(not TRACE.is_file(), reason="the Mooncake trace is not in ../shared/traces")

KEYS = {"workload", "policy", "load", "seed", "replicas", "requests", "programs"} | {
    f"{what}_{figure}_s"
    for what in ("completion", "ttft", "tpot", "e2e", "queue_wait")
    for figure in ("mean", "p50", "p95", "p99")
} | {
    "prefix_hit_rate", "recomputed_tokens", "imbalance", "jain_programs", "goodput_fraction", "gpu_s_per_program",
}  # fmt: skip


def test_a_grid_from_the_command_line_to_the_report(inline: None, tmp_path: Path) -> None:
    result = weft_bench(*SMALL, "--load", "0.7,0.9", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    rows = rows_in(tmp_path)
    assert [(row["policy"], row["load"], row["seed"]) for row in rows] == [
        (policy, load, seed) for load in (0.7, 0.9) for policy in ("round-robin", "weft") for seed in (1, 2)
    ]
    for row in rows:
        assert row.keys() >= KEYS
        assert (row["workload"], row["replicas"], row["programs"], row["requests"]) == ("uniform", 2, 6, 6)
    results = results_in(tmp_path)
    assert results["command"] == f"weft bench {' '.join(SMALL)} --load 0.7,0.9 --out {tmp_path}"
    assert len(results["costs"]) == len(rows)
    assert {point["cache_blocks"] for point in results["curves"]} == {14000, 27999, 55998, 111996}
    (gantt,) = results["gantts"]
    assert list(gantt["policies"]) == ["round-robin", "weft"]
    assert "<html" in (tmp_path / "report.html").read_text()
    assert list(tmp_path.glob("*.png"))
    assert re.search(r"0\.9 +round-robin +[\d.]+ ± [\d.]+ +[\d.]+ +0\.00 +0 +100 *\n", result.output)


def test_without_a_directory_there_is_the_table(inline: None) -> None:
    result = weft_bench(*SMALL)
    assert result.exit_code == 0
    assert "uniform: replicas 2, seeds 2" in result.output


def test_without_a_report_nothing_is_run_for_it(inline: None, tmp_path: Path) -> None:
    assert weft_bench(*SMALL, "--no-report", "--out", tmp_path).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    results = results_in(tmp_path)
    assert (len(results["rows"]), results["curves"], results["gantts"]) == (4, [], [])


def test_several_cache_sizes_are_the_curve(inline: None, tmp_path: Path) -> None:
    workload = ("--workload", "pipeline", "--programs", "6", "--replicas", "2", "--policies", "weft", "--seeds", "2")
    assert weft_bench(*workload, "--cache-blocks", "4000,unbounded", "--out", tmp_path).exit_code == 0
    points = results_in(tmp_path)["curves"]
    assert [(point["cache_blocks"], point["seed"]) for point in points] == [(4000, 1), (4000, 2), (None, 1), (None, 2)]
    assert points[0]["prefix_hit_rate"] < points[2]["prefix_hit_rate"]


def test_options_reach_the_run(inline: None, tmp_path: Path) -> None:
    def row(*options: str) -> dict[str, object]:
        arguments = ("--workload", "swarm", "--programs", "4", "--policies", "weft", "--seeds", "1", "--no-report")
        result = weft_bench(*arguments, *options, "--overwrite", "--out", tmp_path)
        assert result.exit_code == 0, result.output
        return dict(rows_in(tmp_path)[0])

    plain = row()
    assert row() == plain
    assert row("--param", "width=2")["requests"] < plain["requests"]  # type: ignore[operator]
    assert row("--slo-ttft", "0.001")["goodput_fraction"] == 0.0
    assert row("--slo-tpot", "0.001")["goodput_fraction"] == 0.0
    assert row("--slo-program", "0.001")["goodput_fraction"] == 0.0
    assert row("--warm-up", "0", "--cool-down", "0")["counted_programs"] == 4
    assert plain["counted_programs"] == 3
    assert row("--routers", "3")["ttft_mean_s"] != plain["ttft_mean_s"]
    assert row("--hints", "none")["requests"] == plain["requests"]
    assert row("--block-size", "64")["block_size_tokens"] == 64
    assert row("--profile", "llama-3.1-70b-4xh100")["tpot_mean_s"] > plain["tpot_mean_s"]  # type: ignore[operator]
    assert row("--arrivals", "bursts")["completion_mean_s"] != plain["completion_mean_s"]
    closed = row("--in-flight", "1")
    assert (closed["load"], closed["in_flight"]) == (None, 1)


def test_what_there_is() -> None:
    result = CliRunner().invoke(cli, ["bench", "--list"])
    assert result.exit_code == 0
    for section, name in {"Workloads": "swarm", "Policies": "round-robin", "Engine profiles": "laptop-demo"}.items():
        assert re.search(rf"^{section}\n(  .+\n)*  {name}  +\w", result.output, re.MULTILINE)


@needs_trace
def test_mooncake_without_time(inline: None) -> None:
    options = ("--trace", TRACE, "--format", "mooncake", "--cache-only", "--policies", "round-robin")
    result = weft_bench(*options, "--replicas", "1", "--cache-blocks", "unbounded")
    assert re.findall(r"round-robin +([\d.]+)", result.output) == ["37.36"]


WRONG = {
    "say what to run": [],
    "not both": ["--workload", "uniform", "--trace", "t", "--format", "mooncake"],
    "--trace and --format go together": ["--trace", "t"],
    "no workload 'nope': give one of": ["--workload", "uniform,nope"],
    "--workload names uniform twice": ["--workload", "uniform,uniform"],
    "no policy 'nope': give all, or some of": ["--workload", "uniform", "--policies", "nope"],
    "--policies names weft twice": ["--workload", "uniform", "--policies", "weft,weft"],
    "--load takes numbers above 0.* not '0'": ["--workload", "uniform", "--load", "0.9,0"],
    "--load takes numbers above 0.* not 'nan'": ["--workload", "uniform", "--load", "nan"],
    "--load takes numbers above 0.* not ''": ["--workload", "uniform", "--load", "0.9,"],
    "--load names 0.9 twice": ["--workload", "uniform", "--load", "0.9,0.90"],
    "'--seeds'": ["--workload", "uniform", "--seeds", "0"],
    "'--replicas'": ["--workload", "uniform", "--replicas", "0"],
    "'--programs'": ["--workload", "uniform", "--programs", "0"],
    "'--jobs'": ["--workload", "uniform", "--jobs", "0"],
    "'--slo-ttft'": ["--workload", "uniform", "--slo-ttft", "0"],
    "'--hints'": ["--workload", "uniform", "--hints", "nope"],
    "'--arrivals'": ["--workload", "uniform", "--arrivals", "nope"],
    "'--format'": ["--trace", "t", "--format", "nope"],
    "no engine profile 'nope'": ["--workload", "uniform", "--profile", "nope"],
    "--cache-blocks takes numbers of blocks.* not 'many'": ["--workload", "uniform", "--cache-blocks", "many"],
    "--cache-blocks takes numbers of blocks.* not '0'": ["--workload", "uniform", "--cache-blocks", "0"],
    "--cache-blocks names unbounded twice": ["--workload", "uniform", "--cache-blocks", "unbounded,unbounded"],
    "no call of uniform fits an engine that takes 160 tokens": ["--workload", "uniform", "--cache-blocks", "10"],
    "does not fit in 0 blocks": ["--workload", "uniform", "--block-size", "500000"],
    "--in-flight starts a program when one ends": ["--workload", "uniform", "--in-flight", "2", "--load", "0.9"],
    "--arrivals trace needs --trace": ["--workload", "uniform", "--arrivals", "trace"],
    "--hint-share needs --hints": ["--workload", "uniform", "--hint-share", "0.5"],
    "hints 'full' are the same": ["--workload", "uniform", "--hints", "full", "--hint-share", "0.5"],
    "leave no program that counts": ["--workload", "uniform", "--warm-up", "0.5", "--cool-down", "0.5"],
    "--slo-ttft means nothing without time": ["--workload", "uniform", "--cache-only", "--slo-ttft", "1"],
    "--in-flight means nothing without time": ["--workload", "uniform", "--cache-only", "--in-flight", "1"],
    "has no parameter 'wings'": ["--workload", "uniform", "--param", "wings=2"],
    "--param is for generated workloads": ["--trace", "t", "--format", "mooncake", "--param", "a=1"],
    "cannot read trace .*nope: No such file": ["--trace", "nope", "--format", "mooncake"],
    "cannot read trace .*/: Is a directory": ["--trace", "/", "--format", "mooncake"],
    "are about the files in --out DIR": ["--workload", "uniform", "--resume"],
    "give one of them": ["--workload", "uniform", "--resume", "--overwrite", "--out", "nope"],
    "--jobs is about this machine": ["--workload", "uniform", "--jobs", "2", "--ray", "local"],
    "cannot write results to /proc/nope": ["--workload", "uniform", "--out", "/proc/nope"],
}


@pytest.mark.parametrize(("message", "arguments"), WRONG.items(), ids=lambda value: "")
def test_what_is_wrong_is_said(message: str, arguments: Sequence[str]) -> None:
    result = weft_bench(*arguments)
    assert result.exit_code == 2
    assert re.search(message, result.output), result.output


def test_a_trace_that_makes_no_sense_names_its_first_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("\n{}\n{}\n")
    result = weft_bench("--trace", path, "--format", "mooncake")
    assert result.exit_code == 2
    assert f"nothing in {path} can be read as mooncake: 2 x bad line" in result.output
    assert "first in line 2" in result.output


def test_bad_lines_of_a_good_trace_are_told(inline: None, tmp_path: Path) -> None:
    path = tmp_path / "good.jsonl"
    row = {"timestamp": 0, "input_length": 900, "output_length": 9, "hash_ids": [1, 2]}
    path.write_text("\n".join([*(json.dumps(row | {"timestamp": at}) for at in (0, 9000)), "{", json.dumps(row)]))
    result = weft_bench("--trace", path, "--format", "mooncake", "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert "good: 3 programs, 3 requests; skipped: 1 x bad line" in result.output
    assert "first in line 3" in result.output


def test_results_that_are_there_are_not_lost_by_accident(inline: None, tmp_path: Path) -> None:
    assert weft_bench(*SMALL, "--no-report", "--out", tmp_path).exit_code == 0
    again = weft_bench(*SMALL, "--no-report", "--out", tmp_path)
    assert again.exit_code == 2
    assert "add to it with --resume, or replace it with --overwrite" in again.output
    other = weft_bench(*SMALL, "--hints", "none", "--no-report", "--resume", "--out", tmp_path)
    assert other.exit_code == 2
    assert "hints was full and is none now" in other.output
    assert weft_bench(*SMALL, "--hints", "none", "--no-report", "--overwrite", "--out", tmp_path).exit_code == 0
    (tmp_path / "results.json").write_text("{}")
    assert "is not a file of results" in weft_bench(*SMALL, "--resume", "--out", tmp_path).output


def test_only_what_is_missing_is_run(inline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weft_bench(*SMALL, "--out", tmp_path / "whole").exit_code == 0
    part = ("--policies", "weft", "--no-report", "--out", tmp_path / "parts")
    assert weft_bench(*SMALL, *part).exit_code == 0
    ran: list[Job] = []

    class Watched(Inline):
        def run(self, jobs: Sequence[Job]):  # type: ignore[no-untyped-def]
            ran.extend(jobs)
            return super().run(jobs)

    monkeypatch.setattr(bench, "Workers", lambda count: Watched())
    assert weft_bench(*SMALL, "--resume", "--out", tmp_path / "parts").exit_code == 0
    assert {(job.policy, job.seed) for job in ran if not job.for_curve} == {
        ("round-robin", 1), ("round-robin", 2), ("weft", 1),
    }  # The last one for its Gantt chart.  # fmt: skip
    whole, parts = results_in(tmp_path / "whole"), results_in(tmp_path / "parts")
    for name in ("rows", "curves", "gantts", "settings"):
        assert whole[name] == parts[name]
    ran.clear()
    assert weft_bench(*SMALL, "--resume", "--out", tmp_path / "parts").exit_code == 0
    assert not ran


def test_runs_that_fail_are_told_and_the_others_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Inline):
        def run(self, jobs: Sequence[Job]):  # type: ignore[no-untyped-def]
            for finished in super().run(jobs):
                failed = finished.job.policy == "weft" and finished.job.seed == 1
                yield Finished(finished.job, None, "Traceback ...\nLookupError: lost") if failed else finished

    monkeypatch.setattr(bench, "Workers", lambda count: Failing())
    result = weft_bench(*SMALL, "--no-report", "--out", tmp_path)
    assert result.exit_code == 1
    assert "failed: uniform under weft at load 0.9, seed 1: LookupError: lost" in result.output
    assert "1 runs failed" in result.output
    assert len(rows_in(tmp_path)) == 3
    (failure,) = results_in(tmp_path)["failures"]
    assert (failure["policy"], failure["error"]) == ("weft", "Traceback ...\nLookupError: lost")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "router.cli", "bench", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def test_rows_are_the_same_in_any_number_of_processes(tmp_path: Path) -> None:
    options = ("--workload", "pipeline", "--programs", "3", "--no-report", "--cache-blocks", "9000,unbounded")
    alone = start(*options, "--jobs", "1", "--out", tmp_path / "one")
    together = start(*options, "--jobs", "2", "--out", tmp_path / "two")
    for process in (alone, together):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    one, two = results_in(tmp_path / "one"), results_in(tmp_path / "two")
    for name in ("rows", "curves", "gantts", "settings", "failures"):
        assert json.dumps(one[name]) == json.dumps(two[name])


def wait_for(what: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 60
    while not what():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--programs", "400", "--seeds", "400", "--jobs", "2", "--no-report", "--out", out)
    process = start("--workload", "uniform", *options)
    wait_for(lambda: (out / "results.json").is_file() and len(rows_in(out)) > 0)
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: to the workers too.
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = len(rows_in(out))
    assert f"interrupted: {kept} of 800 rows kept" in output
    assert "uniform: replicas 8, seeds" in output
    assert "Traceback" not in output


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for child processes in /proc")
def test_no_process_outlives_a_command_that_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("--workload", "uniform", "--programs", "400", "--seeds", "400", "--jobs", "2", "--out", out)
    wait_for(lambda: (out / "results.json").is_file() and len(rows_in(out)) > 0)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate(timeout=60)  # Its output ends when the last process that could write has gone.
    wait_for(lambda: not any(_alive(pid) for pid in children))


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
