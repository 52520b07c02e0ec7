"""Programs made ready for a run: at the load that was asked for, and none that does not fit."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sim.bench.arriving import arriving
from sim.bench.job import Arriving, Setting
from sim.bench.source import Generated, Recorded, default_count, programs_of
from sim.engine import load_profile
from sim.workloads.registry import workload_names

SETTING = Setting(load_profile("llama-3.1-8b-1xh100").engine)
UNIFORM = Generated("uniform", 50)


@pytest.mark.parametrize("arrivals", [Arriving.POISSON, Arriving.BURSTS])
def test_exactly_the_load_is_offered_while_programs_arrive(arrivals: Arriving) -> None:
    setting = replace(SETTING, arrivals=arrivals)
    for load in (0.5, 1.1):
        assert arriving(UNIFORM, 1, setting, load).offered_load == pytest.approx(load)


def test_loads_differ_in_nothing_but_time() -> None:
    low, high = (arriving(UNIFORM, 3, SETTING, load).programs for load in (0.5, 1.0))
    assert [replace(program, arrival_s=0) for program in low] == [replace(program, arrival_s=0) for program in high]
    assert [program.arrival_s for program in low] == pytest.approx([2 * program.arrival_s for program in high])


def test_seeds_differ_and_repeat() -> None:
    assert arriving(UNIFORM, 1, SETTING, 0.9).programs == arriving(UNIFORM, 1, SETTING, 0.9).programs
    assert arriving(UNIFORM, 1, SETTING, 0.9).programs != arriving(UNIFORM, 2, SETTING, 0.9).programs


def test_in_a_closed_loop_there_is_no_load() -> None:
    assert arriving(UNIFORM, 1, replace(SETTING, in_flight=3), None).offered_load is None


def test_a_single_program_arrives_when_it_does() -> None:
    assert arriving(Generated("uniform", 1), 1, SETTING, 0.9).offered_load is None


def write_trace(path: Path, timestamps_ms: list[int]) -> Recorded:
    row = {"input_length": 1000, "output_length": 9, "hash_ids": [1, 2]}
    rows = [row | {"timestamp": at} for at in timestamps_ms]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return Recorded("trace", str(path), "mooncake")


def test_a_trace_keeps_its_times_or_has_them_scaled(tmp_path: Path) -> None:
    trace = write_trace(tmp_path / "a.jsonl.gz", [0, 10_000, 40_000])
    setting = replace(SETTING, arrivals=Arriving.TRACE)
    recorded = [program.arrival_s for program in programs_of(trace, 1)]
    as_recorded = arriving(trace, 1, setting, None)
    assert [program.arrival_s for program in as_recorded.programs] == recorded
    scaled = arriving(trace, 1, setting, 0.8)
    factor = 0.8 / (as_recorded.offered_load or 0)
    assert [program.arrival_s for program in scaled.programs] == pytest.approx([at / factor for at in recorded])
    assert scaled.offered_load == pytest.approx(0.8)


def test_a_trace_without_times_cannot_be_scaled(tmp_path: Path) -> None:
    path = tmp_path / "dag.jsonl"
    session = {"session_id": "a", "turns": [{"messages": [{"role": "user", "content": "x " * 50}], "max_tokens": 5}]}
    path.write_text("\n".join(json.dumps(session | {"session_id": name}) for name in "ab"))
    setting = replace(SETTING, arrivals=Arriving.TRACE)
    with pytest.raises(ValueError, match="all arrive at once: give --arrivals poisson"):
        arriving(Recorded("dag", str(path), "dag_jsonl"), 1, setting, 0.5)


def test_what_the_engine_cannot_take_in_is_left_out_and_counted(tmp_path: Path) -> None:
    small = replace(SETTING, engine=replace(SETTING.engine, max_model_len_tokens=4000))
    fitted = arriving(UNIFORM, 1, small, 0.9)
    assert 0 < fitted.dropped_requests < 50
    assert len(fitted.programs) == 50 - fitted.dropped_requests
    with pytest.raises(ValueError, match="no call of tot fits an engine that takes 4,000 tokens"):
        arriving(Generated("tot", 2), 1, small, 0.9)


def test_caches_take_in_whatever_there_is() -> None:
    small = replace(SETTING, engine=replace(SETTING.engine, max_model_len_tokens=4000), cache_only=True)
    assert len(arriving(UNIFORM, 1, small, 0.9).programs) == 50


def test_every_workload_has_a_size_of_its_own() -> None:
    for name in workload_names():
        assert default_count(name, 8) == 8 * default_count(name, 1) >= 8
