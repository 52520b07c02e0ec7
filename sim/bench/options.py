"""The command line, read and checked: from options to the grid that they mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from sim.bench.grid import Grid
from sim.bench.job import Arriving, Setting
from sim.bench.measure import Slo
from sim.bench.parameters import read_parameters
from sim.bench.roles import RoleOptions
from sim.bench.source import Generated, Recorded, Source, default_count
from sim.engine import EngineConfig, load_profile
from sim.policies.catalogue import find_policies
from sim.workloads.hints import make_hint
from sim.workloads.registry import workload_names
from sim.workloads.traces.mooncake import BLOCK_SIZE_TOKENS as MOONCAKE_BLOCK_TOKENS

_DEFAULT_REPLICAS = 8
_DEFAULT_LOAD = 0.9
_DEFAULT_SEEDS = 3

_Value = TypeVar("_Value")


@dataclass(slots=True, frozen=True, kw_only=True)
class Options:
    """As they were given; None where they were not."""

    workload: str | None = None
    trace: Path | None = None
    trace_format: str | None = None
    programs: int | None = None
    parameters: Sequence[str] = ()
    policies: str = "round-robin,weft"
    replicas: int | None = None
    roles: RoleOptions = field(default_factory=RoleOptions)
    routers: int | None = None
    profile: str = "llama-3.1-8b-1xh100"
    cache_blocks: str | None = None
    block_size_tokens: int | None = None
    load: str | None = None
    arrivals: Arriving | None = None
    in_flight: int | None = None
    seeds: int | None = None
    hints: str | None = None
    hint_share: float | None = None
    slo_ttft_s: float | None = None
    slo_tpot_s: float | None = None
    slo_program_s: float | None = None
    warm_up: float | None = None
    cool_down: float | None = None
    cache_only: bool = False

    @property
    def fleet(self) -> int:
        """Replicas, of whatever role."""
        return self.replicas or self.roles.replicas or _DEFAULT_REPLICAS


def read_grid(options: Options) -> Grid:
    """Raises ValueError for what is wrong or does not go together."""
    if problem := next(_conflicts(options), None):
        raise ValueError(problem)
    setting = _setting(options)
    policies = [policy.name for policy in find_policies(options.policies, roles=options.roles.given)]
    return Grid(
        setting=setting,
        sources=_sources(options),
        policies=_once(policies, "--policies"),
        loads=_loads(options, setting),
        seeds=options.seeds or (1 if options.cache_only else _DEFAULT_SEEDS),
        cache_blocks=_cache_sizes(options) or [_own_engine(options).usable_blocks],
    )


def _conflicts(options: Options) -> Iterator[str]:
    if not options.workload and not options.trace:
        yield "say what to run: --workload NAME or --trace FILE (weft bench --list names the workloads)"
    if options.workload and options.trace:
        yield "give --workload or --trace, not both"
    if (options.trace is None) != (options.trace_format is None):
        yield "--trace and --format go together"
    if options.trace and options.parameters:
        yield "--param is for generated workloads, not for a trace"
    if options.arrivals is Arriving.TRACE and not options.trace:
        yield "--arrivals trace needs --trace"
    if options.in_flight and (options.load or options.arrivals):
        yield "--in-flight starts a program when one ends: leave --load and --arrivals out"
    if options.hint_share is not None and options.hints is None:
        yield "--hint-share needs --hints partial or wrong"
    if (options.warm_up or 0.0) + (options.cool_down or 0.0) >= 1:
        yield "--warm-up and --cool-down leave no program that counts: give less than 1 together"
    yield from options.roles.conflicts()
    if options.roles.given and options.replicas is not None:
        yield "--prefill and --decode say how many replicas there are: leave --replicas out"
    if options.cache_only:
        yield from (f"{name} means nothing without time: leave it or --cache-only out" for name in _timed_only(options))


def _timed_only(options: Options) -> Iterator[str]:
    """Options that were given and that a run without time has no use for."""
    values = {
        "--in-flight": options.in_flight,
        "--prefill": options.roles.prefill,
        "--routers": options.routers,
        "--hints": options.hints,
        "--slo-ttft": options.slo_ttft_s,
        "--slo-tpot": options.slo_tpot_s,
        "--slo-program": options.slo_program_s,
        "--warm-up": options.warm_up,
        "--cool-down": options.cool_down,
    }
    yield from (name for name, value in values.items() if value is not None)


def _setting(options: Options) -> Setting:
    make_hint(options.hints or "full", 0, options.hint_share)
    limits = {
        "ttft_s": options.slo_ttft_s,
        "tpot_s": options.slo_tpot_s,
        "program_s": options.slo_program_s,
    }
    given = {
        "routers": options.routers,
        "hints": options.hints,
        "hint_share": options.hint_share,
        "warm_up": options.warm_up,
        "cool_down": options.cool_down,
    }
    return Setting(
        engine=_engine(options),
        replicas=options.fleet,
        prefill=options.roles.prefill or 0,
        decode=options.roles.decode or 0,
        transfer=options.roles.transfer(load_profile(options.profile)),
        transfer_failures=options.roles.transfer_failures or 0.0,
        arrivals=options.arrivals or (Arriving.TRACE if options.trace else Arriving.POISSON),
        in_flight=options.in_flight,
        slo=Slo(**{name: value for name, value in limits.items() if value is not None}),
        cache_only=options.cache_only,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )


def _own_engine(options: Options) -> EngineConfig:
    """The profile's, with as many tokens in blocks of the size wanted."""
    engine = load_profile(options.profile).engine
    size_tokens = options.block_size_tokens
    if size_tokens is None and options.cache_only and options.trace_format == "mooncake":
        size_tokens = MOONCAKE_BLOCK_TOKENS
    if size_tokens is None:
        return engine
    blocks = engine.usable_blocks * engine.block_size_tokens // size_tokens
    return replace(engine, block_size_tokens=size_tokens, num_blocks=blocks + 1)


def _engine(options: Options) -> EngineConfig:
    """One that takes in no request that is too long for the smallest cache."""
    engine = _own_engine(options)
    sizes = [blocks for blocks in _cache_sizes(options) if blocks is not None]
    if options.cache_only or not sizes:
        return engine
    fitting_tokens = min(sizes) * engine.block_size_tokens
    return replace(engine, max_model_len_tokens=min(engine.max_model_len_tokens, fitting_tokens))


def _cache_sizes(options: Options) -> list[int | None]:
    """Empty: the engine's own."""
    if options.cache_blocks is None:
        return []
    sizes = [None if text == "unbounded" else _whole(text) for text in _parts(options.cache_blocks)]
    return _once(sizes, "--cache-blocks")


def _whole(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"--cache-blocks takes numbers of blocks from 1 up, or unbounded, not {text!r}")
    return int(text)


def _loads(options: Options, setting: Setting) -> list[float | None]:
    if options.load is not None:
        return _once([_load(text) for text in _parts(options.load)], "--load")
    paced = setting.arrivals is Arriving.TRACE or setting.in_flight is not None
    return [None if paced else _DEFAULT_LOAD]


def _load(text: str) -> float | None:
    try:
        load = float(text)
    except ValueError:
        load = math.nan
    if not 0 < load < math.inf:
        raise ValueError(f"--load takes numbers above 0, as 0.7,0.9,1.1, not {text!r}")
    return load


def _sources(options: Options) -> list[Source]:
    if options.trace is not None:
        name = options.trace.name.split(".")[0]
        return [Recorded(name, str(options.trace), str(options.trace_format), options.programs)]
    names = workload_names() if options.workload == "all" else _parts(str(options.workload))
    return [
        Generated(name, options.programs or default_count(name, options.fleet), _parameters(name, options))
        for name in _once(names, "--workload")
    ]


def _parameters(name: str, options: Options) -> tuple[tuple[str, object], ...]:
    return read_parameters(name, options.parameters)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _once(values: list[_Value], option: str) -> list[_Value]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{option} names {value if value is not None else 'unbounded'} twice")
    return values
