"""The report of a benchmark: a page that needs nothing but itself, and its figures as PNGs."""

from __future__ import annotations

from pathlib import Path

from sim.bench.report.page import render_page
from sim.bench.report.summary import summarise
from sim.bench.results import Results

PAGE_NAME = "report.html"


def write_report(directory: Path, results: Results) -> list[Path]:
    """Write ``report.html`` and PNGs into ``directory`` and return their paths. Raises OSError.

    Whatever is missing in the results is left out of the report: figures of a row, whole rows, curves, Gantt charts.
    Equal results give equal bytes.
    """
    from sim.bench.report.figures import draw_figures  # Matplotlib takes a second to load: only where it is needed.

    summary = summarise(results)
    pictures = draw_figures(summary, results, directory)
    page = directory / PAGE_NAME
    page.write_text(render_page(summary, results, pictures), encoding="utf-8")
    return [page, *(directory / picture.file_name for drawn in pictures.values() for picture in drawn)]
