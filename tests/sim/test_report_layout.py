"""Where names and steps are put in figures: against plain reference models."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.bench.report.lanes import lanes
from sim.bench.report.spread import spread

POSITIONS = st.lists(st.integers(0, 100).map(lambda hundredths: hundredths / 100), min_size=1, max_size=12)


def least_squares(wanted: list[float], gap: float) -> list[float]:
    """Isotonic regression by its max-min formula (Robertson, Wright, Dykstra, 1988)."""
    free = [each - place * gap for place, each in enumerate(sorted(wanted))]
    count = len(free)
    fitted = [max(min(fmean(free[i : k + 1]) for k in range(at, count)) for i in range(at + 1)) for at in range(count)]
    return [value + place * gap for place, value in enumerate(fitted)]


@given(POSITIONS, st.sampled_from([0.01, 0.05, 0.3]))
def test_names_move_as_little_as_it_takes(wanted: list[float], gap: float) -> None:
    assert sorted(spread(wanted, gap, -100.0, 100.0)) == pytest.approx(least_squares(wanted, gap))


@given(POSITIONS, st.sampled_from([0.01, 0.05, 0.3]))
def test_names_stay_in_their_room_and_order(wanted: list[float], gap: float) -> None:
    places = spread(wanted, gap, 0.0, 1.0)
    assert min(places) >= -1e-9
    assert max(places) <= 1 + 1e-9
    in_order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    apart = min(gap, 1 / max(1, len(wanted) - 1))
    for one, two in pairwise(in_order):
        assert places[two] - places[one] >= apart - 1e-9


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    after: dict[str, list[str]] = {}
    for number in range(draw(st.integers(1, 14))):
        after[f"s{number}"] = [name for name in after if draw(st.booleans())]
    return after


def precedes(one: str, two: str, after: dict[str, list[str]]) -> bool:
    return any(name == one or precedes(one, name, after) for name in after[two])


@given(graphs())
def test_steps_that_may_overlap_have_lanes_of_their_own(after: dict[str, list[str]]) -> None:
    lane_of = lanes(after)
    assert sorted(set(lane_of.values())) == list(range(max(lane_of.values()) + 1))
    names = list(after)
    for place, two in enumerate(names):
        for one in names[:place]:
            assert lane_of[one] != lane_of[two] or precedes(one, two, after)


def test_a_loop_stays_in_its_lane_and_a_join_returns_to_the_first() -> None:
    after = {"a": [], "b": ["a"], "c1": ["b"], "c2": ["b"], "c1b": ["c1"], "join": ["c1b", "c2"], "next": ["join"]}
    assert lanes(after) == {"a": 0, "b": 0, "c1": 0, "c2": 1, "c1b": 0, "join": 0, "next": 0}


def test_steps_after_what_is_not_drawn_are_drawn() -> None:
    assert lanes({"a": ["gone"], "b": ["a", "gone"]}) == {"a": 0, "b": 0}
