"""What a person is shown: lines, the live picture and the table, from runs in every state."""

import io

import pytest
from rich.console import Console

from sim.demo.measure import Call
from sim.demo.run import Load, Run, planned_runs, read_load
from sim.demo.view import compared, line, picture, result_table
from sim.demo.workload import make_programs


def run(title="KV-aware", calls=(), started_s=None, ended_s=None):
    made = Run("kv_aware", title, "default", planned_calls=10, replicas=2)
    made.calls, made.started_s, made.ended_s = list(calls), started_s, ended_s
    return made


def calls(count, ttft_s, cached_tokens):
    return [Call(f"r{number % 2}", ttft_s, 2 * ttft_s, 1000, cached_tokens) for number in range(count)]


def text_of(renderable, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def test_every_way_of_routing_is_planned_with_the_same_calls():
    programs = make_programs(1, 2.0, 2)
    runs = planned_runs(programs, 2)
    assert [each.key for each in runs] == ["round_robin", "kv_aware"]
    assert {each.planned_calls for each in runs} == {sum(program.calls for program in programs)}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (run(started_s=100.0), "KV-aware: 7 s, 0/10 requests"),
        (
            run(calls=calls(4, 0.25, 500), started_s=100.0),
            "KV-aware: 7 s, 4/10 requests, TTFT mean 0.25 s, hit rate 50%",
        ),
        (run(calls=[Call(error="refused")], started_s=100.0, ended_s=103.0), "KV-aware: 3 s, 1/10 requests"),
    ],
)
def test_a_line_tells_how_far_a_run_is(state, said):
    assert line(state, now_s=107.0) == said


def test_the_picture_shows_all_runs_and_the_replicas_of_the_current_one():
    first = run("round robin", calls(10, 1.0, 250), started_s=50.0, ended_s=80.0)
    second = run("KV-aware", calls(3, 0.25, 900), started_s=100.0)
    second.loads = [Load(running=3, waiting=0), Load(running=5, waiting=2)]
    shown = text_of(picture([first, second], now_s=107.0))
    assert "10/10  30 s     1.00 s    1.00 s       25%" in shown
    assert "3/10   7 s     0.25 s    0.25 s       90%" in shown
    assert "replicas under KV-aware" in shown
    assert "5 running  2 waiting" in shown


def test_before_and_after_everything_there_is_a_picture_too():
    assert "starting 2 replicas" in line(run(), now_s=0.0)
    assert "starting 2 replicas" in text_of(picture([run("round robin"), run()], now_s=0.0))
    done = run(calls=calls(10, 1.0, 250), started_s=50.0, ended_s=80.0)
    assert "10/10" in text_of(picture([done, done], now_s=90.0))


def test_the_table_compares_each_run_with_the_first():
    first = run("round robin", calls(10, 1.0, 250))
    second = run("KV-aware", calls(10, 0.25, 750))
    third = run("another", [*calls(8, 1.0, 250), Call(error="refused")])
    rows = [
        [cell.strip() for cell in row.split("│")[1:-1]]
        for row in text_of(result_table([first, second, third])).splitlines()
    ]
    table = {row[0]: row[1:] for row in rows if row}
    assert table["time to first token, mean"] == ["1.00 s", "0.25 s", "4.0x less", "1.00 s", "the same"]
    assert table["prefix hit rate"] == ["25%", "75%", "3.0x more", "25%", "the same"]
    assert table["prompt tokens computed"] == ["7,500", "2,500", "3.0x less", "6,000", "1.2x less"]
    assert table["requests"] == ["10", "10", "", "9", ""]
    assert table["errors"] == ["0", "0", "", "1", ""]
    assert table["requests per replica"] == ["5 5", "5 5", "", "4 4", ""]


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
