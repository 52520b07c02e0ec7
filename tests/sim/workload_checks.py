"""What every program must be, and its prompts spelled out token by token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path

import pytest

from sim.workloads.program import Part, Program, Step

TRACES = Path(__file__).parents[3] / "shared" / "traces"


def real_trace(name: str) -> Path:
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"{name} is not in ../shared/traces")
    return path


def check_programs(programs: Sequence[Program]) -> None:
    """Ids are unique, steps follow earlier steps, times are sane and nothing is empty."""
    assert len({program.id for program in programs}) == len(programs)
    arrivals_s = [program.arrival_s for program in programs]
    assert arrivals_s == sorted(arrivals_s)
    answer_streams = [step.answer_stream for program in programs for step in program.steps]
    assert len(set(answer_streams)) == len(answer_streams), "no two answers are the same"
    for program in programs:
        assert program.steps
        assert isfinite(program.arrival_s)
        assert program.arrival_s >= 0
        seen: dict[str, Step] = {}
        for step in program.steps:
            assert step.name not in seen
            assert set(step.after) <= seen.keys()
            assert len(set(step.after)) == len(step.after)
            assert isfinite(step.wait_s)
            assert step.wait_s >= 0
            assert step.output_tokens >= 1
            assert step.parts
            assert all(part.tokens >= 1 and part.offset >= 0 and part.stream >= 0 for part in step.parts)
            seen[step.name] = step


def tokens(parts: Iterable[Part]) -> list[tuple[int, int]]:
    return [(part.stream, part.offset + index) for part in parts for index in range(part.tokens)]


def common(some: Sequence[object], others: Sequence[object]) -> int:
    """Length of what two sequences begin with alike."""
    return next(
        (index for index, pair in enumerate(zip(some, others, strict=False)) if pair[0] != pair[1]),
        min(len(some), len(others)),
    )


def common_tokens(one: Step, other: Step) -> int:
    """How many tokens two prompts begin with alike, without spelling them out."""
    shared = 0
    for mine, theirs in zip(one.parts, other.parts, strict=False):
        if (mine.stream, mine.offset) != (theirs.stream, theirs.offset):
            break
        shared += min(mine.tokens, theirs.tokens)
        if mine.tokens != theirs.tokens:
            break
    return shared
