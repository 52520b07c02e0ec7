"""``weft sim``: tools around the simulator."""

from __future__ import annotations

import click

from sim.calibrate.command import command as calibrate


@click.group("sim")
def command() -> None:
    """Tools around the simulator."""


command.add_command(calibrate)
