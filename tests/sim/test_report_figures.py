"""The PNGs of a report, and what is drawn in them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from report_world import STEPS, full_results, gantt, row, step

from sim.bench.report import write_report
from sim.bench.report.gantt_chart import draw_gantt
from sim.bench.report.gantt_step import gantt_steps
from sim.bench.report.load_chart import draw_over_load
from sim.bench.report.measures import COMPLETION
from sim.bench.report.style import BLUE, GREEN, INK, VERMILLION
from sim.bench.report.summary import summarise
from sim.bench.results import Results


def test_pngs_can_be_read_and_show_something(tmp_path: Path) -> None:
    _, *paths = write_report(tmp_path, full_results())
    names = [path.name for path in paths]
    assert names == [f"swarm-{kind}.png" for kind in ("completion", "relative", "service", "cache", "gantt")]
    for path in paths:
        pixels = matplotlib.image.imread(path)
        height, width, _ = pixels.shape
        assert width > 1000
        assert height > 150
        assert np.ptp(pixels[..., :3]) > 0.8


def test_files_of_workloads_that_sound_alike_are_kept_apart(tmp_path: Path) -> None:
    results = Results("", gantts=[gantt("a", workload=name) for name in ("My trace", "my/trace", "..")])
    assert [path.name for path in write_report(tmp_path, results)[1:]] == [
        "my-trace-gantt.png",
        "my-trace-gantt-2.png",
        "workload-gantt.png",
    ]


def test_a_directory_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        write_report(tmp_path / "nowhere", Results(""))


def test_lines_that_matter_stand_out() -> None:
    policies = ["round-robin", "slow", "good", "oracle", "weft"]
    means = dict(zip(policies, (50.0, 60.0, 20.0, 5.0, 30.0), strict=True))
    made = [row(policy, load=load, completion_mean_s=means[policy]) for policy in policies for load in (0.7, 0.9)]
    figure = draw_over_load(summarise(Results("", rows=made)), "swarm", [COMPLETION], size_in=(6, 4), detailed=True)
    assert figure is not None
    (axes,) = figure.axes
    coloured = {line.get_color(): list(line.get_ydata()) for line in axes.lines[:5]}  # type: ignore[arg-type]
    assert coloured[VERMILLION] == [50.0, 50.0]
    assert coloured[GREEN] == [20.0, 20.0]
    assert coloured[INK] == [5.0, 5.0]
    assert coloured[BLUE] == [30.0, 30.0]
    assert {text.get_text() for text in axes.texts} == set(policies)


def test_names_do_not_cover_each_other() -> None:
    policies = [f"policy-{number}" for number in range(24)]
    same = [row(policy, load=load) for policy in policies for load in (0.7, 0.9)]
    figure = draw_over_load(summarise(Results("", rows=same)), "swarm", [COMPLETION], size_in=(6, 4.4), detailed=True)
    assert figure is not None
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    overlaps = [low.y1 - high.y0 for low, high in pairwise(boxes)]
    assert max(overlaps) < 0.35 * boxes[0].height, "only the empty space above and below letters may be shared"
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


@pytest.mark.parametrize(("most_s", "scale"), [(40.0, "linear"), (60.0, "log")])
def test_times_far_apart_have_a_logarithmic_axis(most_s: float, scale: str) -> None:
    made = [row("weft", completion_mean_s=10.0), row("slow", completion_mean_s=most_s)]
    figure = draw_over_load(summarise(Results("", rows=made)), "swarm", [COMPLETION], size_in=(6, 4), detailed=True)
    assert figure is not None
    assert figure.axes[0].get_yscale() == scale


def test_both_programs_of_a_gantt_chart_have_one_time_axis() -> None:
    late = [*STEPS[:3], step("join", 8.5, 12.0, "left", "right")]
    figure = draw_gantt({"round-robin": gantt_steps(late), "weft": gantt_steps(STEPS)})
    assert figure is not None
    slow, fast = figure.axes
    assert slow.get_xlim() == fast.get_xlim() == (0, pytest.approx(1.01 * 12))
    assert slow.get_title(loc="left") == "round-robin: done after 12.0 s"
    assert fast.get_title(loc="left") == "weft: done after 6.00 s"


def test_of_a_long_program_the_first_steps_are_drawn() -> None:
    steps = [step(f"s{n}", n, n + 0.8, *([f"s{n - 1}"] if n else [])) for n in range(1500)]
    figure = draw_gantt({"weft": gantt_steps(steps)})
    assert figure is not None
    assert figure.axes[0].get_title(loc="left") == "weft: first 120 of 1,500 steps; done after 1,500 s"
    assert figure.axes[0].get_xlim()[1] == pytest.approx(1.01 * 119.8)


def test_steps_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="sent_s"):
        gantt_steps([{**STEPS[0], "sent_s": "soon"}])
