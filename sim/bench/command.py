"""``weft bench``: compares routing policies on simulated replicas under virtual time."""

from __future__ import annotations

import os
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sim.bench.execute import execute
from sim.bench.finished import Backend
from sim.bench.job import Arriving
from sim.bench.listing import listing
from sim.bench.options import Options, read_grid
from sim.bench.ray_backend import RayCluster
from sim.bench.roles import RoleOptions
from sim.bench.workers import Workers
from sim.engine import profile_names
from sim.workloads.hints import hint_names
from sim.workloads.registry import workload_names
from sim.workloads.traces import trace_formats

_POSITIVE = click.IntRange(min=1)
_REPLICAS = click.IntRange(1, 1024)
_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)
_SECONDS = click.FloatRange(min=0, min_open=True)
_FILE_WIDTH = 120
_SHARE = click.FloatRange(min=0, max=1, max_open=True)


def _list(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(listing())
        context.exit()


class _Command(click.Command):
    """Remembers its command line, which the results repeat."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["command_line"] = shlex.join(["weft", "bench", *args])
        return super().parse_args(ctx, args)


@click.command("bench", cls=_Command)
@click.option("--workload", metavar="NAMES", help=f"all, or some of {', '.join(workload_names())}.")
@click.option("--trace", type=click.Path(path_type=Path), help="Recorded programs instead, plain or gzipped.")
@click.option("--format", "trace_format", type=click.Choice(trace_formats()), help="Of the trace.")
@click.option("--programs", type=_POSITIVE, help="Of each run. Default: enough for the workload and the replicas.")
@click.option("--param", "parameters", multiple=True, metavar="KEY=VALUE",
              help="A workload's parameter, as width=8, width=4..16, tool.wait_s=9~1.7. May be repeated.")  # fmt: skip
@click.option("--policies", default="round-robin,weft", show_default=True, metavar="NAMES", help="all or some.")
@click.option("--replicas", type=_REPLICAS, help="Default: 8.")
@click.option("--prefill", type=_REPLICAS, help="Replicas that only compute prompts for others; with --decode.")
@click.option("--decode", type=_REPLICAS, help="Replicas that answer; with --prefill, instead of --replicas.")
@click.option("--bandwidth-gbps", type=_ABOVE_ZERO, help="Gigabits a second of each replica's network, either way, "
              "for KV blocks. Default: 200.")  # fmt: skip
@click.option("--transfer-latency-ms", type=click.FloatRange(min=0), help="Before the first block. Default: 2.")
@click.option("--transfer-overlap", type=click.FloatRange(0, 1), help="Share of a prompt's blocks that can leave while "
              "the rest is computed. Default: 0, as vLLM's NixlConnector.")  # fmt: skip
@click.option("--transfer-failures", type=click.FloatRange(0, 1), help="Share of transfers that fail. Default: 0.")
@click.option("--routers", type=click.IntRange(1, 1000), help="Each with its own index. Default: 1.")
@click.option("--profile", default="llama-3.1-8b-1xh100", show_default=True,
              help=f"Size and speed of a replica: a YAML file or one of {', '.join(profile_names())}.")  # fmt: skip
@click.option("--cache-blocks", metavar="NUMBERS",
              help="Cache of a replica: so many blocks, or unbounded. Default: the profile's.")  # fmt: skip
@click.option("--block-size", "block_size_tokens", type=_POSITIVE,
              help="Tokens. Default: the profile's; 512 for --cache-only of a mooncake trace.")  # fmt: skip
@click.option("--load", metavar="NUMBERS",
              help="Offered work over capacity under perfect caching, as 0.7,0.9,1.1. Default: 0.9.")  # fmt: skip
@click.option("--arrivals", type=click.Choice([str(kind) for kind in Arriving]),
              help="Default: poisson; trace for a trace, as in the file or scaled to --load.")  # fmt: skip
@click.option("--in-flight", type=_POSITIVE, help="Closed loop: so many programs at a time, instead of a load.")
@click.option("--seeds", type=_POSITIVE, help="Runs of each, with seeds 1, 2, ... Default: 3; 1 with --cache-only.")
@click.option("--hints", type=click.Choice(hint_names()), help="What clients tell of their programs. Default: full.")
@click.option("--hint-share", type=click.FloatRange(0, 1), help="Of the calls that partial or wrong hints are about.")
@click.option("--slo-ttft", "slo_ttft_s", type=_SECONDS, help="Seconds that goodput allows. Default: 2.")
@click.option("--slo-tpot", "slo_tpot_s", type=_SECONDS, help="Seconds a token. Default: 0.05.")
@click.option("--slo-program", "slo_program_s", type=_SECONDS, help="Seconds for a program. Default: any.")
@click.option("--warm-up", type=_SHARE, help="Share of programs that come first and whose times do not count. "
              "Default: 0.3.")  # fmt: skip
@click.option("--cool-down", type=_SHARE, help="Share of those that come last. Default: 0.1.")
@click.option("--cache-only", is_flag=True, help="Only which blocks are where: no time passes.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Directory for results.json and the report. Without it there is only the table.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Keep the rows that are there and run those that are missing.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--no-report", is_flag=True, help="No report, and none of the runs that only it needs.")
@click.option("--jobs", type=_POSITIVE, help="Processes. Default: one for each core.")
@click.option("--ray", "ray_address", metavar="ADDRESS", help="Run on a Ray cluster instead: auto, local, HOST:PORT.")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list,
              help="Name workloads, policies, engine profiles and hints, and exit.")  # fmt: skip
@click.pass_context
def command(
    context: click.Context,
    /,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    no_report: bool,
    jobs: int | None,
    ray_address: str | None,
    **options: Any,
) -> None:
    """Compare routing policies on simulated replicas under virtual time.

    Every workload is run under every policy at every load with every seed, through the router that serves production
    traffic. Finished runs are kept when it is interrupted.
    """
    try:
        if (resume or overwrite or no_report) and out is None:
            raise ValueError("--resume, --overwrite and --no-report are about the files in --out DIR: give that too")
        if resume and overwrite:
            raise ValueError("--resume keeps what --overwrite replaces: give one of them")
        arrivals = options.pop("arrivals")
        roles = RoleOptions(**{field.name: options.pop(field.name) for field in fields(RoleOptions)})
        grid = read_grid(Options(arrivals=Arriving(arrivals) if arrivals else None, roles=roles, **options))
        status = execute(
            grid,
            lambda: _backend(jobs, ray_address),
            make_console(),
            directory=out,
            command=context.meta["command_line"],
            resume=resume,
            overwrite=overwrite,
            report=out is not None and not no_report,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"stopped: {error}") from error
    context.exit(status)


def make_console() -> Console:
    """As wide as the terminal; a file is wide enough for every column."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _FILE_WIDTH
    return console


def _backend(jobs: int | None, ray_address: str | None) -> Backend:
    if ray_address is None:
        return Workers(jobs or cores())
    if jobs is not None:
        raise ValueError("--jobs is about this machine: Ray has a job for each core of its own")
    return RayCluster(ray_address)


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
