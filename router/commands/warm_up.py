"""`weft warm-up`: compiles the kernels, for images and fresh machines."""

from __future__ import annotations

import importlib
import time

import click

COMPILED_ON_IMPORT = ("router.core.index.hashing", "router.engine.kv_events.wire")


@click.command("warm-up")
def command() -> None:
    """Compile the kernels now rather than at the first start."""
    began_s = time.monotonic()
    for module in COMPILED_ON_IMPORT:
        importlib.import_module(module)
    importlib.import_module("router.core.index.prefix_index").warm_up()
    importlib.import_module("router.core.programs.lineage_marks").compiled()
    click.echo(f"kernels ready after {time.monotonic() - began_s:.1f} s")
