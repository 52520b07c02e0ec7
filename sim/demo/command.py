"""`weft demo`: the same agents on simulated replicas behind a round robin, Weft, and Weft with program scheduling."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from sim.demo.fleet import FleetError
from sim.demo.run import Run, execute, planned_runs
from sim.demo.view import result_table, shown
from sim.demo.workload import Program, make_programs, peak_context_tokens
from sim.engine.profile import load_profile

ENGINE_PROFILE = "laptop-demo"
FOOTNOTE = "completion: from an agent's start to the end of its last answer; again: what that agent had sent before"


@click.command("demo")
@click.option("--seed", default=1, show_default=True, help="Another seed: other agents, the same load.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5, max=3600),
    default=4.0,
    show_default=True,
    help="Agents start during this time; the last ones end some 45 s later.",
)
@click.option("--replicas", type=click.IntRange(1, 16), default=4, show_default=True, help="The load grows with them.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the figures to this file as well.",
)
def command(seed: int, seconds: float, replicas: int, json_path: Path | None) -> None:
    """Round robin, KV-aware routing and program scheduling on simulated replicas.

    The same agents run three times at once, over real HTTP, each time through a `weft serve` of their own. The replicas
    compute nothing: they are a model of vLLM's scheduler and prefix cache with made-up step times.
    """
    if json_path and not json_path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {json_path.parent}", param_hint="--json")
    console = Console()
    programs = make_programs(seed, seconds, replicas)
    runs = planned_runs(programs, replicas)
    console.print(_introduction(programs, replicas), highlight=False, soft_wrap=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        asyncio.run(_compare(console, runs, programs))
    except FleetError as error:
        raise click.ClickException(str(error)) from error
    report(console, runs)
    if json_path:
        figures = {run.way.key: asdict(summary) for run in runs if (summary := run.summary())}
        json_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


async def _compare(console: Console, runs: Sequence[Run], programs: Sequence[Program]) -> None:
    with tempfile.TemporaryDirectory(prefix="weft-demo-") as directory:
        async with shown(console, runs):
            await execute(runs, programs, ENGINE_PROFILE, Path(directory))


def _introduction(programs: Sequence[Program], replicas: int) -> str:
    engine = load_profile(ENGINE_PROFILE).engine
    capacity_tokens = engine.usable_blocks * engine.block_size_tokens
    kinds = Counter(program.kind for program in programs)
    return (
        f"{len(programs)} agents (ReAct: {kinds['react']}, tree of thought: {kinds['tree']}) make "
        f"{sum(program.calls for program in programs)} calls to simulated replicas.\n"
        f"Contexts alive at one time: about {round(peak_context_tokens(programs), -3):,} tokens; "
        f"KV cache: {replicas} x {capacity_tokens:,} tokens.\n"
    )


def report(console: Console, runs: Sequence[Run]) -> None:
    """The table, what its columns are, and what went wrong. Raises ClickException when a run has nothing to show."""
    for run in runs:
        if run.summary() is None:
            raise click.ClickException(f"no request was answered under {run.way.title}: {run.calls[0].error}")
    console.print(result_table(runs))
    for run in runs:
        console.print(f"{run.way.title}: {run.way.line}", highlight=False, markup=False, soft_wrap=True)
    console.print(FOOTNOTE, highlight=False, soft_wrap=True)
    for run in runs:
        errors = Counter(call.error for call in run.calls if call.error)
        for error, count in errors.most_common(3):
            console.print(f"{run.way.title}: {count}x {error}", style="red", highlight=False, markup=False)
