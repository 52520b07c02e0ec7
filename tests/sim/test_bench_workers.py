"""Jobs in processes of their own: each exactly once, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from sim.bench.job import Job, Setting
from sim.bench.source import Generated, Recorded
from sim.bench.workers import Workers
from sim.engine import load_profile

SETTING = Setting(load_profile("llama-3.1-8b-1xh100").engine, replicas=2)
QUICK = Job(SETTING, Generated("uniform", 3), "round-robin", 0.9, 1, SETTING.engine.usable_blocks)


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def spawned() -> list[int]:
    return [pid for pid in children() if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for child processes in /proc")


def test_a_job_that_raises_takes_nothing_with_it() -> None:
    wrong = replace(QUICK, policy="no such policy")
    finished = list(Workers(1).run([wrong, QUICK]))
    assert [each.job for each in finished] == [wrong, QUICK]
    assert finished[0].outcome is None
    assert finished[0].error.endswith("KeyError: 'no such policy'")
    assert finished[1].outcome is not None
    assert finished[1].outcome.row["requests"] == 3


@pytest.fixture
def endless(tmp_path: Path) -> Job:
    """Waits for somebody to write into its trace."""
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    return replace(QUICK, source=Recorded("pipe", str(path), "mooncake"))


@needs_proc
def test_a_process_that_dies_takes_only_its_own_job_with_it(endless: Job) -> None:
    finished = []
    for each in Workers(2).run([endless, QUICK, replace(QUICK, seed=2)]):
        finished.append(each)
        if len(finished) == 2:
            (stuck,) = spawned()
            os.kill(stuck, signal.SIGKILL)
    assert [each.job for each in finished] == [QUICK, replace(QUICK, seed=2), endless]
    assert [each.error for each in finished] == ["", "", "its process ended with exit code -9"]


@needs_proc
def test_whoever_stops_listening_ends_the_processes(endless: Job) -> None:
    running = Workers(2).run([QUICK, endless])
    next(running)
    assert spawned()
    running.close()
    assert not spawned()
