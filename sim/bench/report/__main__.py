"""Writes the report of finished results again, or prints their tables as Markdown.

    python -m sim.bench.report DIR               DIR/report.html and PNGs, from DIR/results.json
    python -m sim.bench.report DIR --markdown    the tables, to standard output

``DIR`` is what ``weft bench --out`` was given.
"""

from __future__ import annotations

from pathlib import Path

import click

from sim.bench.report import write_report
from sim.bench.report.markdown import markdown
from sim.bench.report.summary import summarise
from sim.bench.results import read_results


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables instead.")
def main(directory: Path, as_markdown: bool) -> None:
    """Write the report of DIRECTORY/results.json again, or print its tables."""
    try:
        results = read_results(directory)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="DIRECTORY") from error
    if as_markdown:
        click.echo(markdown(summarise(results)))
        return
    for path in write_report(directory, results):
        click.echo(path)


if __name__ == "__main__":
    main(prog_name="python -m sim.bench.report")
