"""Workload parameters as the command line takes them."""

import pytest

from sim.bench.parameters import read_distribution, read_parameters
from sim.workloads.draw import Lognormal, Range
from sim.workloads.registry import make_workload
from sim.workloads.tools import ToolUse


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("8", Range(8, 8)),
        ("4..16", Range(4, 16)),
        ("0.9..0.95", Range(0.9, 0.95)),
        ("9~1.7", Lognormal(9, 1.7)),
        ("9~1.7[0..610]", Lognormal(9, 1.7, 0, 610)),
        ("0.5~0.25[0.1..2.5]", Lognormal(0.5, 0.25, 0.1, 2.5)),
    ],
)
def test_distributions(text: str, meant: object) -> None:
    assert read_distribution(text) == meant


def test_fields_of_a_workload_and_of_what_it_holds() -> None:
    given = ["levels=2", "width=3", "tool.frequency=0.5", "tool.wait_s=1..2"]
    read = dict(read_parameters("swarm", given))
    assert read == {"levels": 2, "width": Range(3, 3), "tool": ToolUse(frequency=0.5, wait_s=Range(1, 2))}
    assert len(make_workload("swarm", 1, 1, **read)[0].steps) > 9


def test_a_workload_of_workloads() -> None:
    read = dict(read_parameters("mixed", ["shares=0,0,1,0", "swarm.tool.frequency=0"]))
    assert {program.kind for program in make_workload("mixed", 1, 9, **read)} == {"swarm"}
    assert read["swarm"].tool.frequency == 0


@pytest.mark.parametrize(
    ("workload", "text", "message"),
    [
        ("swarm", "levels", "'levels' is not of the form key=value"),
        ("swarm", "levels=", "'levels=' is not of the form key=value"),
        ("swarm", "wings=2", "workload swarm has no parameter 'wings'; it has width, levels,"),
        ("swarm", "tool.wings=2", "tool has no parameter 'wings'; it has frequency,"),
        ("swarm", "tool=2", "'tool=2': give one of tool.frequency,"),
        ("swarm", "levels.high=2", "'levels.high=2': levels has no parameters of its own"),
        ("swarm", "levels=0", "'levels=0': a swarm needs at least one level"),
        ("swarm", "levels=1.5", "'levels=1.5': '1.5' is not a whole number"),
        ("swarm", "width=wide", "'width=wide': 'wide' is not a number; give one, LOW..HIGH, or MEDIAN~SIGMA"),
        ("swarm", "width=9~", "'width=9~': '9~' is not a number"),
        ("swarm", "width=5..4", "'width=5..4': a range needs"),
        ("swarm", "tool.frequency=2", "'tool.frequency=2': frequency is a share"),
        ("mixed", "shares=1,2", "'shares=1,2': shares are four numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(workload: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message.replace('[', '.')}"):
        read_parameters(workload, [text])
