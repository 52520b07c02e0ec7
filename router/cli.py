"""The `weft` command."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from router.config import ConfigError

COMMANDS = {
    "serve": ("router.commands.serve", "Route OpenAI traffic to vLLM replicas."),
    "check": ("router.commands.check", "Validate a configuration and connect to each replica."),
    "envoy-config": ("router.commands.envoy_config", "Print the configuration of an Envoy that asks Weft."),
    "warm-up": ("router.commands.warm_up", "Compile the kernels now rather than at the first start."),
    "demo": ("sim.demo.command", "Round robin, KV-aware routing and program scheduling on simulated replicas."),
    "bench": ("sim.bench.command", "Compare routing policies on simulated replicas."),
    "advise-split": ("sim.advise.command", "How many replicas should prefill and how many decode."),
    "sim-replicas": ("sim.cli", "Serve simulated vLLM replicas."),
    "sim": ("sim.group", "Fit the engine model to a live replica: weft sim calibrate URL."),
}
"""Module and help of each command. A module is imported when its command is used: `serve` needs no simulator."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup)
@click.version_option(package_name="weft")
def cli() -> None:
    """Weft: a KV-cache-aware request router for fleets of vLLM replicas."""


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Wrong configuration ends with a message and exit code 2."""
    try:
        return cli(arguments)
    except ConfigError as error:
        click.echo(f"weft: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
