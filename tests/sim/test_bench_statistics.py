"""Means and intervals over seeds, against figures worked out by hand and published quantiles."""

import pytest

from sim.bench.statistics import Interval, interval, t_975


def test_three_values_by_hand() -> None:
    # Mean 4, deviations -2, 0 and 2: variance 8 / 2 = 4, standard error 2 / sqrt(3) = 1.1547, times 4.303.
    found = interval([2.0, 4.0, 6.0])
    assert found.mean == 4.0
    assert found.half_width == pytest.approx(4.9687, abs=1e-3)
    assert (found.low, found.high) == (pytest.approx(-0.9687, abs=1e-3), pytest.approx(8.9687, abs=1e-3))


def test_five_values_by_hand() -> None:
    # Mean 30, squared deviations 1000, variance 250, standard error sqrt(50) = 7.0711, times 2.776.
    found = interval([10, 20, 30, 40, 50])
    assert (found.mean, found.half_width) == (30.0, pytest.approx(19.629, abs=1e-3))


def test_equal_values_leave_no_doubt_and_a_single_one_leaves_all() -> None:
    assert interval([1.5, 1.5]) == Interval(1.5, 0.0)
    assert interval([1.5]) == Interval(1.5, None)
    assert (interval([1.5]).low, interval([1.5]).high) == (1.5, 1.5)
    with pytest.raises(ValueError, match="no value"):
        interval([])


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (10, 2.2281), (30, 2.0423), (31, 2.0395), (40, 2.0211), (60, 2.0003), (120, 1.9799)],
)
def test_quantiles_of_student(freedom: int, quantile: float) -> None:
    assert t_975(freedom) == pytest.approx(quantile, abs=5e-4)


def test_with_many_values_it_is_the_normal_quantile() -> None:
    assert t_975(10**6) == pytest.approx(1.95996, abs=1e-5)
