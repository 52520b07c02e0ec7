"""`weft demo` as a person runs it, on programs that take a moment."""

import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from sim.demo import command as demo
from sim.demo.measure import Call
from sim.demo.run import Run
from sim.demo.ways import COMPARED
from sim.demo.workload import Program, Stage, Turn

LONG = "All of this is shared. " * 40
STAGES = (
    Stage((Turn("First.", 3),), name="look"),
    Stage((Turn("Left.", 3), Turn("Right.", 3)), best=1, name="explore"),
    Stage((Turn("Last.", 3),), name="evaluate"),
)
TINY = [Program("react", f"react-{number}", 0.1 * number, LONG, (), STAGES) for number in range(3)]


@pytest.fixture
def invoke(monkeypatch):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(demo, "make_programs", lambda seed, seconds, replicas: TINY)
    yield lambda *arguments: CliRunner().invoke(demo.command, arguments)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_the_whole_demo_compares_three_ways_of_routing(invoke, tmp_path):
    path = tmp_path / "figures.json"
    result = invoke("--replicas", "2", "--json", str(path))
    assert result.exit_code == 0, result.output
    assert "starting 3 times 2 replicas and a router" in result.output
    for way in COMPARED:
        assert f"{way.title}: {way.line}" in result.output
    figures = json.loads(path.read_text())
    assert list(figures) == ["round_robin", "kv_aware", "programs"]
    for figure in figures.values():
        assert (figure["requests"], figure["errors"]) == (12, 0)
        assert figure["programs"] == 3
        assert 0.0 < figure["ttft_mean_s"] <= figure["program_mean_s"] <= figure["program_p95_s"]
        assert figure["prefill_tokens_computed"] > 0
        assert 0.0 < figure["prefix_hit_rate"] < 1.0


def test_replicas_that_do_not_start_end_it_with_a_message(invoke, monkeypatch):
    monkeypatch.setattr(demo, "ENGINE_PROFILE", str(Path(__file__).parent / "no-such-profile.yaml"))
    monkeypatch.setattr(demo, "_introduction", lambda programs, replicas: "")
    result = invoke("--replicas", "1")
    assert result.exit_code == 1
    assert re.search(r"Error: the simulated replicas ended with exit code 2:\n.*no engine profile", result.output, re.S)


def test_a_json_file_that_cannot_be_written_is_refused_at_once(invoke):
    result = invoke("--json", "/no/such/directory/figures.json")
    assert result.exit_code == 2
    assert "there is no directory /no/such/directory" in result.output


def run_of(*calls):
    run = Run(COMPARED[0], planned_calls=len(calls), replicas=1)
    run.calls = list(calls)
    return run


def test_a_run_without_an_answer_is_an_error_that_says_why():
    with pytest.raises(click.ClickException, match="no request was answered under round robin: HTTP 503"):
        demo.report(Console(file=io.StringIO()), [run_of(Call(error="HTTP 503"))])


def test_errors_are_told_below_the_table():
    output = io.StringIO()
    demo.report(Console(file=output), [run_of(Call(prompt_tokens=8), Call(error="HTTP 503"), Call(error="HTTP 503"))])
    assert "round robin: 2x HTTP 503" in output.getvalue()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the processes")
def test_an_interrupt_stops_every_process():
    """SIGTERM, which the demo treats as Ctrl-C."""
    arguments = [sys.executable, "-m", "router.cli", "demo", "--seconds", "1", "--replicas", "1"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while "0 s, answered of" not in process.stdout.readline():
            assert process.poll() is None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 6
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read()
    assert process.returncode == 1
    assert "Aborted!" in said
    assert "Traceback" not in said
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
