"""What a person is shown: lines, the live picture and the table, from runs in every state."""

import io
import re

import pytest
from rich.console import Console

from sim.demo.measure import Call
from sim.demo.run import Load, Run, planned_runs, read_load
from sim.demo.view import compared, line, picture, result_table
from sim.demo.ways import COMPARED, Way
from sim.demo.workload import make_programs


def run(title="KV-aware", calls=(), started_s=None, ended_s=None, programs_s=()):
    made = Run(Way("kv_aware", title, ""), planned_calls=10, replicas=2)
    made.calls, made.started_s, made.ended_s, made.programs_s = list(calls), started_s, ended_s, list(programs_s)
    return made


def calls(count, ttft_s, cached_tokens):
    return [Call(ttft_s, 1000, cached_tokens, sent_tokens=800) for _ in range(count)]


def text_of(renderable, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def test_every_way_of_routing_is_planned_with_the_same_calls():
    programs = make_programs(1, 2.0, 2)
    runs = planned_runs(programs, 2)
    assert [each.way for each in runs] == list(COMPARED)
    assert {each.planned_calls for each in runs} == {sum(program.calls for program in programs)}


def test_a_line_tells_how_far_the_runs_are():
    runs = [run("one", calls(4, 0.25, 500), started_s=100.0), run("other", started_s=100.0)]
    assert line(runs, now_s=107.0) == " 7 s, answered of 10 requests: one 4, other 0"


def test_time_goes_on_until_the_last_run_has_ended():
    runs = [run("one", started_s=100.0, ended_s=103.0), run("other", started_s=100.0)]
    assert line(runs, now_s=107.0).startswith(" 7 s")
    runs[1].ended_s = 108.0
    assert line(runs, now_s=120.0).startswith(" 8 s")


def test_the_picture_shows_all_runs_and_their_replicas():
    first = run("round robin", calls(10, 1.0, 250), started_s=100.0, ended_s=105.0, programs_s=[3.0, 4.0])
    second = run("KV-aware", calls(3, 0.25, 900), started_s=100.0)
    second.loads = [Load(running=3, waiting=0), Load(running=5, waiting=2)]
    shown = text_of(picture([first, second], now_s=107.0))
    assert "10/10            2   5 s  1.00 s       25%" in shown
    assert "3/10            0   7 s  0.25 s       90%" in shown
    assert "3 + 0" in shown
    assert "5 + 2" in shown


def test_before_and_after_everything_there_is_a_picture_too():
    assert "starting 2 times 2 replicas" in line([run(), run()], now_s=0.0)
    assert "starting 2 times 2 replicas" in text_of(picture([run("round robin"), run()], now_s=0.0))
    done = run(calls=calls(10, 1.0, 250), started_s=50.0, ended_s=80.0)
    assert "10/10" in text_of(picture([done, done], now_s=90.0))


def test_a_run_whose_calls_all_failed_is_shown_without_figures():
    assert "1/10" in text_of(picture([run(calls=[Call(error="refused")], started_s=100.0)], now_s=103.0))


@pytest.fixture
def three_runs():
    return [
        run("round robin", calls(10, 1.0, 250), programs_s=[40.0]),
        run("KV-aware", calls(10, 0.25, 750), programs_s=[20.0]),
        run("programs", [*calls(8, 1.0, 800), Call(error="refused")], programs_s=[10.0]),
    ]


def test_the_table_compares_each_run_with_the_first(three_runs):
    rows = [re.split(r"  +", row.strip()) for row in text_of(result_table(three_runs)).splitlines()]
    table = {row[0]: row[1:] for row in rows}
    assert table["completion, mean"] == ["40.00 s", "20.00 s", "2.0x less", "10.00 s", "4.0x less"]
    assert table["first token, mean"] == ["1.00 s", "0.25 s", "4.0x less", "1.00 s", "the same"]
    assert table["prefix hit rate"] == ["25%", "75%", "3.0x more", "80%", "3.2x more"]
    assert table["tokens computed"] == ["7,500", "2,500", "3.0x less", "1,600", "4.7x less"]
    assert table["of these again"] == ["5,500", "500", "11.0x less", "0"]


def test_the_table_fits_a_terminal_of_80_columns(three_runs):
    assert text_of(result_table(three_runs), width=80).split() == text_of(result_table(three_runs), width=200).split()


@pytest.mark.parametrize(
    ("value", "base", "said"),
    [
        (1.0, 4.0, "4.0x less"),
        (4.0, 1.0, "4.0x more"),
        (1.02, 1.0, "the same"),
        (0.0, 1.0, ""),
        (1.0, 0.0, ""),
    ],
)
def test_a_comparison_says_how_many_times(value, base, said):
    assert compared(value, base) == said


def test_load_is_read_from_the_metrics_page_of_vllm():
    page = (
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
        "# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="tiny"} 3.0\n'
        'vllm:num_requests_waiting{engine="0",model_name="tiny"} 2.0\n'
        'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0\n'
    )
    assert read_load(page) == Load(running=3, waiting=2)
    assert read_load("") == Load()
