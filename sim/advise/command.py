"""``weft advise-split``: how many replicas should prefill and how many decode, for a workload or a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sim.advise.reckon import reckon
from sim.advise.show import reckoning, table, verdict
from sim.advise.split import propose
from sim.advise.trial import try_splits
from sim.bench.command import cores, make_console
from sim.bench.options import Options, read_grid
from sim.bench.roles import make_transfer
from sim.bench.workers import Workers
from sim.engine import load_profile, profile_names
from sim.workloads.registry import workload_names
from sim.workloads.traces import trace_formats

_POSITIVE = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0, min_open=True)
_DEFAULT_LOAD = "0.7"


@click.command("advise-split")
@click.option("--workload", metavar="NAME", help=f"One of {', '.join(workload_names())}.")
@click.option("--trace", type=click.Path(path_type=Path), help="Recorded programs instead, plain or gzipped.")
@click.option("--format", "trace_format", type=click.Choice(trace_formats()), help="Of the trace.")
@click.option("--programs", type=_POSITIVE, help="Default: enough for the workload and the replicas.")
@click.option("--param", "parameters", multiple=True, metavar="KEY=VALUE", help="A workload's parameter.")
@click.option("--replicas", type=click.IntRange(2, 1024), default=8, show_default=True, help="To be split.")
@click.option("--profile", default="llama-3.1-8b-1xh100", show_default=True,
              help=f"Size and speed of a replica: a YAML file or one of {', '.join(profile_names())}.")  # fmt: skip
@click.option("--load", metavar="NUMBER", help="Offered work over capacity under perfect caching. Default: as the "
              "trace has it; 0.7 for a workload.")  # fmt: skip
@click.option("--bandwidth-gbps", type=_SECONDS, help="Gigabits a second of each replica's network, either way. "
              "Default: 200.")  # fmt: skip
@click.option("--slo-ttft", "slo_ttft_s", type=_SECONDS, help="Seconds until the first token. Default: 2.")
@click.option("--slo-tpot", "slo_tpot_s", type=_SECONDS, help="Seconds a token. Default: 0.05.")
@click.option("--seeds", type=_POSITIVE, default=2, show_default=True, help="Runs of each split.")
@click.option("--jobs", type=_POSITIVE, help="Processes. Default: one for each core.")
def command(jobs: int | None, bandwidth_gbps: float | None, **options: Any) -> None:
    """Tell how many replicas should prefill and how many decode.

    What prompts and answers cost is reckoned from the profile and from the prefixes that the workload shares. Then that
    split, its neighbours and the same replicas without roles are simulated with Weft's router; the best is the one with
    the most requests in time and, among equals, the shortest mean completion.
    """
    if options["load"] is None and options["trace"] is None:
        options["load"] = _DEFAULT_LOAD
    console = make_console()
    try:
        grid = read_grid(Options(policies="weft", **options))
        transfer = make_transfer(load_profile(options["profile"]), bandwidth_gbps)
        needed = reckon(grid, transfer)
        proposed = propose(needed, grid.setting.replicas)
        console.print(reckoning(needed, proposed, transfer), highlight=False)
        with console.status("simulating"):
            trials = try_splits(proposed, grid.row_jobs(), transfer, Workers(jobs or cores()).run)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    console.print(table(trials))
    console.print(verdict(trials, proposed), highlight=False)
