"""Programs made ready for one run: cut to what the engine takes in, and given the times of a load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.bench.job import Arriving, Setting
from sim.bench.source import Source, programs_of
from sim.workloads.arrivals import Bursts, ClosedLoop, Poisson, arrange, sped_up
from sim.workloads.fit import fitting
from sim.workloads.offered import OfferedWork, offered_work
from sim.workloads.program import Program


@dataclass(slots=True, frozen=True)
class Arrival:
    """Programs as they arrive."""

    programs: list[Program]
    work: OfferedWork
    dropped_requests: int
    """Those that are too long for the engine."""
    offered_load: float | None
    """Work over capacity while programs arrive. None: in a closed loop, or when all arrive at once."""


def arriving(source: Source, seed: int, setting: Setting, load: float | None) -> Arrival:
    """Raises ValueError when nothing fits the engine, or programs that have no times shall keep them."""
    programs = list(programs_of(source, seed))
    fitted, dropped = fitting(programs, setting.engine.max_model_len_tokens)
    if not fitted:
        raise ValueError(
            f"no call of {source.name} fits an engine that takes {setting.engine.max_model_len_tokens:,} tokens: "
            "choose another --profile or larger caches"
        )
    work = offered_work(fitted, setting.engine)
    if setting.cache_only:  # Caches take in whatever there is.
        dropped = 0
    else:
        programs = fitted
    if setting.in_flight is None:
        programs = _timed(programs, work, seed, setting, load)
    else:
        programs = arrange(programs, ClosedLoop(), seed)
    duration_s = _duration_s(programs)
    offered_load = work.load_of(duration_s, setting.replicas) if duration_s and setting.in_flight is None else None
    return Arrival(programs, work, dropped, offered_load)


def _timed(
    programs: list[Program], work: OfferedWork, seed: int, setting: Setting, load: float | None
) -> list[Program]:
    """With a load, times are scaled so that exactly this much is offered from the first arrival to the last one: seeds
    differ in what comes when, not in how much."""
    if setting.arrivals is not Arriving.TRACE:
        kind = Poisson if setting.arrivals is Arriving.POISSON else Bursts
        programs = arrange(programs, kind(work.rate_at(load or 1.0, setting.replicas)), seed)
    if load is None or len(programs) == 1:
        return programs
    duration_s = _duration_s(programs)
    if not duration_s:
        raise ValueError("the programs of this trace all arrive at once: give --arrivals poisson, or --in-flight")
    return sped_up(programs, load / work.load_of(duration_s, setting.replicas))


def _duration_s(programs: Sequence[Program]) -> float:
    times_s = [program.arrival_s for program in programs]
    return max(times_s) - min(times_s)
