"""When programs arrive: at random, in bursts, up a ladder of rates, or all at once for a closed loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from sim.workloads.program import Program


class Arrivals(Protocol):
    def times_s(self, count: int, rng: Random) -> list[float]:
        """``count`` times in ascending order, from 0 on."""


@dataclass(slots=True, frozen=True)
class ClosedLoop:
    """All at once: the cluster starts a program whenever one ends."""

    def times_s(self, count: int, rng: Random) -> list[float]:
        return [0.0] * count


@dataclass(slots=True, frozen=True)
class Poisson:
    rate_per_s: float

    def __post_init__(self) -> None:
        _check_positive("rate_per_s", self.rate_per_s)

    def times_s(self, count: int, rng: Random) -> list[float]:
        times, now_s = [], 0.0
        for _ in range(count):
            now_s += rng.expovariate(self.rate_per_s)
            times.append(now_s)
        return times


@dataclass(slots=True, frozen=True)
class Bursts:
    """Bursts of ``size`` programs, each spread over ``spread_s``; the bursts come at random."""

    rate_per_s: float
    """Programs per second in the long run."""
    size: int = 8
    spread_s: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("rate_per_s", self.rate_per_s)
        _check_positive("size", self.size)

    def times_s(self, count: int, rng: Random) -> list[float]:
        bursts = Poisson(self.rate_per_s / self.size).times_s(-(-count // self.size), rng)
        times = [start_s + rng.uniform(0.0, self.spread_s) for start_s in bursts for _ in range(self.size)]
        return sorted(times[:count])


@dataclass(slots=True, frozen=True)
class Ladder:
    """Poisson arrivals whose rate changes in steps; what is beyond the last step keeps its rate.

    The default is the ladder of llm-d-kv-cache's benchmark "73 % capacity": 50 s of warm-up, then 3 to 60 requests a
    second.
    """

    steps: tuple[tuple[float, float], ...] = (
        (15, 50), (3, 20), (10, 20), (15, 20), (20, 38), (22, 34), (25, 30), (30, 25), (35, 21), (40, 38), (43, 36),
        (46, 33), (49, 30), (52, 29), (55, 27), (57, 26), (60, 25),
    )  # fmt: skip
    """(requests per second, seconds) of each."""

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a ladder needs at least one (rate, seconds) step")
        for rate_per_s, duration_s in self.steps:
            _check_positive("rate of a ladder step", rate_per_s)
            _check_positive("duration of a ladder step", duration_s)

    @property
    def requests(self) -> int:
        """How many arrive over all steps, on average."""
        return round(sum(rate_per_s * duration_s for rate_per_s, duration_s in self.steps))

    def times_s(self, count: int, rng: Random) -> list[float]:
        """A unit Poisson process, stretched by the rate in force."""
        times: list[float] = []
        steps = iter(self.steps)
        rate_per_s, left_s = next(steps)
        now_s = 0.0
        for _ in range(count):
            units = rng.expovariate(1.0)
            while units > rate_per_s * left_s and (following := next(steps, None)) is not None:
                units -= rate_per_s * left_s
                now_s += left_s
                rate_per_s, left_s = following
            now_s += units / rate_per_s
            left_s = max(0.0, left_s - units / rate_per_s)
            times.append(now_s)
        return times


def arrange(programs: Sequence[Program], arrivals: Arrivals, seed: int) -> list[Program]:
    """The same programs, in order, at other times."""
    times_s = arrivals.times_s(len(programs), Random(f"{seed}/arrivals"))
    return [replace(program, arrival_s=time_s) for program, time_s in zip(programs, times_s, strict=True)]


def sped_up(programs: Iterable[Program], factor: float) -> list[Program]:
    """The same programs, arriving ``factor`` times as fast; the waits inside them stay."""
    _check_positive("factor", factor)
    return [replace(program, arrival_s=program.arrival_s / factor) for program in programs]


def _check_positive(what: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{what} must be above 0, not {value}")
