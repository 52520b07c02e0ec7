"""Figures as text, and the tables in Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from report_world import full_results, row

from sim.bench.report.__main__ import main
from sim.bench.report.markdown import markdown
from sim.bench.report.measures import COMPLETION, TPOT, three_digits
from sim.bench.report.summary import summarise
from sim.bench.results import Results, write_results


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00012, "0.0001"),
        (0.01234, "0.0123"),
        (0.999, "0.999"),
        (1.0, "1.00"),
        (9.994, "9.99"),
        (10.0, "10.0"),
        (99.94, "99.9"),
        (100.0, "100"),
        (1234.5, "1,234"),
        (1e7, "10,000,000"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_an_interval_has_the_decimals_of_its_mean() -> None:
    assert COMPLETION.spread_text(12.34, 0.5678) == "12.3 ± 0.6"
    assert TPOT.spread_text(0.02468, 0.1) == "24.7 ± 100.0"


def test_markdown_tables() -> None:
    made = [row("weft", completion_mean_s=8.0), row("round-robin", completion_mean_s=16.0, ttft_p95_s=1.0)]
    lines = markdown(summarise(Results("", rows=made))).splitlines()
    assert lines == [
        "### Mean completion over that of the best policy, load 0.9",
        "",
        "| policy | swarm | geometric mean |",
        "|---|---:|---:|",
        "| weft | **1.00** | **1.00** |",
        "| round-robin | 2.00 | 2.00 |",
        "",
        "### swarm, load 0.9",
        "",
        "| policy | completion, mean, s | completion over round-robin, × | completion, p95, s | TTFT, p95, s "
        "| TPOT, mean, ms | hit rate, % | recomputed, k tokens | imbalance | Jain | goodput, % | GPU time, s/program |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        "| weft | **8.00** | **0.500** | 20.0 | 1.50 | 25.0 | 50.0 | 12.3 | 1.20 | 0.900 | 75.0 | 3.00 |",
        "| round-robin | 16.0 | 1.00 | 20.0 | **1.00** | 25.0 | 50.0 | 12.3 | 1.20 | 0.900 | 75.0 | 3.00 |",
    ]


def test_names_mean_nothing_in_markdown() -> None:
    text = markdown(summarise(Results("", rows=[row("a|b*\n<i>`", workload="x_y")])))
    assert "### x\\_y, load 0.9" in text
    assert "| a\\|b\\* \\<i\\>\\` |" in text


def test_oracles_take_no_honours() -> None:
    made = [row("oracle", completion_mean_s=1.0), row("weft", completion_mean_s=2.0), row("b", completion_mean_s=3.0)]
    text = markdown(summarise(Results("", rows=made)))
    assert "| oracle | 0.50 | 0.50 |" in text
    assert "| oracle | 1.00 |" in text
    assert "| weft | **2.00** |" in text


def test_ratios_to_the_baseline_are_taken_seed_by_seed() -> None:
    made = [
        row(policy, seed=seed, completion_mean_s=mean)
        for policy, means in {"round-robin": (10.0, 100.0), "weft": (5.0, 50.0)}.items()
        for seed, mean in enumerate(means)
    ]
    assert "| weft | **27.5 ± 285.9** | **0.500** |" in markdown(summarise(Results("", rows=made)))


def test_the_command_writes_a_report_again(tmp_path: Path) -> None:
    write_results(tmp_path, full_results())
    done = CliRunner().invoke(main, [str(tmp_path)])
    assert done.exit_code == 0
    assert all(Path(line).is_file() for line in done.output.splitlines())
    assert (tmp_path / "report.html").is_file()


def test_the_command_prints_tables(tmp_path: Path) -> None:
    results = full_results()
    write_results(tmp_path, results)
    done = CliRunner().invoke(main, [str(tmp_path), "--markdown"])
    assert done.output.strip() == markdown(summarise(results)).strip()


def test_bad_input_is_said_so(tmp_path: Path) -> None:
    for text in (None, "no JSON", '{"rows": []}'):
        if text is not None:
            (tmp_path / "results.json").write_text(text)
        done = CliRunner().invoke(main, [str(tmp_path)])
        assert done.exit_code == 2
        assert "results.json" in done.output
        assert "Traceback" not in done.output
