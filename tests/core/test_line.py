"""Lines through observations."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.line import Line


def through(points):
    line = Line()
    for x, y in points:
        line.observe(x, y)
    return line


def test_points_on_a_line_give_that_line():
    line = through((x, 3.0 + 0.5 * x) for x in (1.0, 20.0, 5.0, 90.0))
    assert line.slope() == pytest.approx(0.5)
    assert line.intercept() == pytest.approx(3.0)


def test_points_that_look_alike_give_a_line_through_the_origin():
    line = through([(10.0, 5.0)] * 4)
    assert line.slope() == pytest.approx(0.5)
    assert line.intercept() == pytest.approx(0.0)


def test_nothing_is_known_of_the_first_points_or_of_zeros():
    assert not through([(1.0, 1.0)]).known
    assert not through([(0.0, 1.0)] * 9).known
    assert Line().slope() == inf


positive = st.floats(1e-3, 1e6)


@given(st.lists(st.tuples(positive, st.floats(0, 1e6)), min_size=3, max_size=40))
def test_neither_parameter_is_ever_negative(points):
    line = through(points)
    assert line.slope() > 0
    assert line.intercept() >= 0
