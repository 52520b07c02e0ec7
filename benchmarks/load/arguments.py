"""What a benchmark of routers is asked on its command line, and the plan and the targets that follow from it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from load.measure import Plan, Test
from load.programs import HarnessError
from load.targets import Target


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """With the options that `plan_of` and `chosen` read, and ``--json``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition of 1 s each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--only", default="", metavar="NAMES", help="targets, comma-separated; default: all")
    parser.add_argument("--tests", default="", metavar="NAMES", help="tests, comma-separated; default: all")
    parser.add_argument("--seconds", type=float, help="of each run (4; quick: 1)")
    parser.add_argument("--repetitions", type=int, help="of each test (3; quick: 1)")
    parser.add_argument("--tries", type=int, default=3, help="for each repetition, until one is quiet")
    parser.add_argument("--quiet", type=float, default=0.1, help="foreign CPU, in cores, that still counts as quiet")
    return parser


def plan_of(arguments: argparse.Namespace, tests: Sequence[Test]) -> Plan:
    """Raises HarnessError on a machine with one core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise HarnessError("two cores are needed: one for what is measured, one for the replicas and the load")
    seconds = arguments.seconds or (1.0 if arguments.quick else 4.0)
    repetitions = arguments.repetitions or (1 if arguments.quick else 3)
    wanted = tuple(test for test in tests if not arguments.tests or test.name in arguments.tests.split(","))
    return Plan(seconds, repetitions, arguments.tries, arguments.quiet, cores[0], cores[1], wanted)


def chosen(targets: Sequence[Target], only: str) -> Sequence[Target]:
    """Those that ``only`` names, comma-separated; all if it is empty. Raises HarnessError for a name that is none."""
    names = [name for name in only.split(",") if name]
    known = {target.name: target for target in targets}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise HarnessError(f"--only: no target {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else targets
