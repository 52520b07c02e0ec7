"""The page of a report: one file, sound, complete, and right to the digit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_world import Page, curve, full_results, gantt, row, rows

from sim.bench.report import write_report
from sim.bench.results import Results

MANY = ["round-robin", *(f"policy-{number}" for number in range(21)), "oracle", "weft"]
HOSTILE = """<script>alert("1")</script>' & $\\frac{ | #0072b2 <g id="axes_1"> ../../x"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report"), full_results(MANY))


def written(directory: Path, results: Results) -> str:
    paths = write_report(directory, results)
    assert paths[0] == directory / "report.html"
    assert sorted(paths) == sorted(directory.iterdir())
    return paths[0].read_text(encoding="utf-8")


def test_the_page_is_sound_and_small(text: str) -> None:
    assert Page(text).tags[0] == "html"
    assert len(text) < 500_000


def test_nothing_is_fetched_from_anywhere(text: str) -> None:
    page = Page(text)
    links = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action", "data")]
    assert links, "markers refer to their definitions"
    assert all(link.startswith("#") for link in links)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "://" not in text
    assert "@import" not in text


def test_names_within_the_page_are_found_once(text: str) -> None:
    attributes = Page(text).attributes
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value for name, value in attributes if name == "xlink:href"} <= {f"#{name}" for name in ids}


def test_every_policy_is_in_every_table_and_named_in_the_figures(text: str) -> None:
    page = Page(text)
    assert len(page.tables) == 6
    for table in page.tables:
        assert {cells[0] for cells in table[1:]} == set(MANY)
    assert set(MANY) <= page.titles


def test_colours_follow_the_theme(text: str) -> None:
    figures = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}", figures)) <= {"#000000"}
    assert "var(--own)" in figures
    assert "color-scheme: light dark" in text


def test_steps_of_a_program_tell_their_times(text: str) -> None:
    told = "right of child-2, replica 1: waiting 0.1 s, prefill 0.4 s, decode 2.5 s; 75% cached"
    assert told in {re.sub(r"(\d\.\d)00? s", r"\1 s", title) for title in Page(text).titles}


def test_a_table_has_means_over_seeds_sorted_by_completion(tmp_path: Path) -> None:
    results = Results(
        "weft bench",
        rows=[
            row("round-robin", seed=1, completion_mean_s=30.0),
            row("round-robin", seed=2, completion_mean_s=50.0),
            row("weft", seed=1, completion_mean_s=10.0, prefix_hit_rate=0.8, recomputed_tokens=1_234_567),
            row("weft", seed=2, completion_mean_s=20.0, prefix_hit_rate=0.9, recomputed_tokens=1_234_567),
        ],
        costs=[{"workload": "swarm", "policy": "weft", "load": 0.9, "seed": 1, "decisions": 9, "decision_us": 71.26}],
    )
    table = Page(written(tmp_path, results)).table("swarm, load 0.9")
    # Student's t for two values is 12.706; half of 10 and of 20 are their standard errors.
    assert table[1] == [
        *("weft", "15.0 ± 63.5", "0.367 ± 0.424", "20.0", "1.50", "25.0", "85.0", "1,235", "1.20", "0.900", "75.0"),
        *("3.00", "71.3"),
    ]
    assert table[2] == [
        *("round-robin", "40.0 ± 127.1", "1.00", "20.0", "1.50", "25.0", "50.0", "12.3", "1.20", "0.900", "75.0"),
        *("3.00", "–"),
    ]


def test_policies_are_compared_with_the_best_that_a_router_can_follow(tmp_path: Path) -> None:
    results = Results("weft bench", rows=[])
    for workload, (best, other, bound) in {"tot": (4.0, 6.0, 2.0), "chat": (8.0, 48.0, 8.0)}.items():
        results.rows += [
            row("best", workload=workload, completion_mean_s=best),
            row("other", workload=workload, completion_mean_s=other),
            row("oracle", workload=workload, completion_mean_s=bound),
        ]
    assert Page(written(tmp_path, results)).table("load 0.9") == [
        ["policy", "tot", "chat", "geometric mean"],
        ["oracle", "0.50", "1.00", "0.71"],
        ["best", "1.00", "1.00", "1.00"],
        ["other", "1.50", "6.00", "3.00"],
    ]


def test_hostile_names_are_shown_as_they_are(tmp_path: Path) -> None:
    policies = ["weft", HOSTILE]
    results = Results(
        HOSTILE,
        {HOSTILE: HOSTILE},
        rows(policies, workload=HOSTILE),
        curve(HOSTILE, workload=HOSTILE),
        [gantt(*policies, workload=HOSTILE)],
        failures=[{"workload": HOSTILE, "error": HOSTILE}],
    )
    page = Page(written(tmp_path, results))
    assert page.tags.count("script") == 1
    assert page.table(f"{HOSTILE}, load 0.9")[2][0] == HOSTILE
    assert HOSTILE in page.titles


def only(**parts: list[dict[str, object]]) -> Results:
    return Results("weft bench", **parts)  # type: ignore[arg-type]


CACHE_ONLY = {"prefix_hit_rate": 0.4, "imbalance": 1.1}
PLACE = {"workload": "trace", "load": None, "seed": 1}


@pytest.mark.parametrize(
    ("results", "tables", "figures"),
    [
        pytest.param(only(), 0, 0, id="nothing"),
        pytest.param(only(rows=rows(["weft"], loads=[0.9], seeds=1)), 2, 2, id="one policy, load and seed"),
        pytest.param(only(rows=rows(["a", "b"], seeds=1)), 6, 2, id="no baseline, one seed"),
        pytest.param(only(rows=rows(["a"], [0.7]) + rows(["b"], [0.9])), 4, 2, id="policies at different loads"),
        pytest.param(only(rows=[row("a", load=None)]), 2, 0, id="a trace at its own pace"),
        pytest.param(only(rows=[row("a", completion_mean_s=None)]), 1, 2, id="a figure that is not there"),
        pytest.param(only(rows=[row("a", **dict.fromkeys(CACHE_ONLY), completion_mean_s=0.0)]), 1, 2, id="zeros"),
        pytest.param(only(rows=[PLACE | CACHE_ONLY | {"policy": "a", "cache_blocks": None}]), 1, 0, id="caches alone"),
        pytest.param(only(curves=curve("a")), 0, 1, id="a curve alone"),
        pytest.param(only(gantts=[gantt("a", "b")]), 0, 1, id="a Gantt chart alone"),
        pytest.param(only(gantts=[gantt() | {"policies": {"a": [], "b": []}}]), 0, 0, id="a Gantt chart of nothing"),
        pytest.param(only(failures=[PLACE | {"policy": "a", "error": "ValueError: no"}]), 0, 0, id="all failed"),
    ],
)
def test_what_is_missing_is_left_out(tmp_path: Path, results: Results, tables: int, figures: int) -> None:
    text = written(tmp_path, results)
    page = Page(text)
    assert len(page.tables) == tables
    assert page.tags.count("svg") == figures == len(list(tmp_path.glob("*.png")))
    assert ("ValueError: no" in text) == bool(results.failures)


def test_cache_sizes_are_not_mixed(tmp_path: Path) -> None:
    sizes = {5_859: 0.138, None: 0.3736}
    results = only(
        rows=[PLACE | {"policy": "a", "cache_blocks": size, "prefix_hit_rate": rate} for size, rate in sizes.items()]
    )
    page = Page(written(tmp_path, results))
    assert page.table("trace, 5,859 blocks, at its own pace")[1] == ["a", "13.8"]
    assert page.table("trace, unbounded caches, at its own pace")[1] == ["a", "37.4"]


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, full_results())
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
