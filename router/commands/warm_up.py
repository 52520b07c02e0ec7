"""`weft warm-up`: compiles the kernels, for images and fresh machines."""

from __future__ import annotations

import time

import click

from router.core.index.prefix_index import warm_up


@click.command("warm-up")
def command() -> None:
    """Compile the kernels now rather than at the first start."""
    began_s = time.monotonic()
    warm_up()
    click.echo(f"kernels ready after {time.monotonic() - began_s:.1f} s")
