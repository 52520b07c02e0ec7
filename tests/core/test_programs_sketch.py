"""Quantile sketches and lengths of programs against plain lists."""

from itertools import accumulate
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.programs.lengths import Lengths
from router.core.programs.sketch import Sketch

values = st.floats(0.001, 1e7)


@given(seen=st.lists(values, min_size=1, max_size=60), share=st.floats(0.0, 1.0))
def test_a_quantile_is_that_of_the_weighted_values_within_a_tenth(seen, share):
    sketch = Sketch()
    for value in seen:
        sketch.add(value)
    weighted = sorted((value, 0.99 ** (len(seen) - 1 - number)) for number, value in enumerate(seen))
    total = sum(weight for _, weight in weighted)
    possible = []
    for slack in (-1e-6, 1e-6):
        up_to = accumulate(weight for _, weight in weighted)
        reached = (
            value for (value, _), weight in zip(weighted, up_to, strict=True) if weight >= (share + slack) * total
        )
        possible.append(next(reached, weighted[-1][0]))
    assert 0.909 * possible[0] - 1e-9 <= sketch.quantile(share) <= 1.0910 * possible[1] + 1e-9


@given(seen=st.lists(values, min_size=1, max_size=60))
def test_the_mean_is_that_of_the_weighted_values(seen):
    sketch = Sketch()
    for value in seen:
        sketch.add(value)
    weights = [0.99 ** (len(seen) - 1 - number) for number in range(len(seen))]
    expected = sum(value * weight for value, weight in zip(seen, weights, strict=True)) / sum(weights)
    assert sketch.mean() == pytest.approx(expected)
    assert sketch.observations == pytest.approx(sum(weights))


def test_nothing_seen_is_nothing_known():
    sketch = Sketch()
    assert (sketch.mean(), sketch.quantile(0.5), sketch.above(0.0), sketch.observations) == (0.0, 0.0, 0.0, 0.0)


def test_old_values_fade_out_and_memory_stays_bounded():
    sketch = Sketch()
    for number in range(20_000):
        sketch.add(1.0 if number < 19_000 else 10.0 ** (number % 11 - 3))
    assert sketch.observations == pytest.approx(100.0, rel=1e-3)
    assert sketch.above(1e6) == pytest.approx(1 / 11, rel=0.1)
    assert sketch.above(1.5) == pytest.approx(7 / 11, rel=0.1)
    assert len(sketch._weights) <= 127
    for _ in range(5_000):
        sketch.add(5.0)
    assert len(sketch._weights) == 1


def test_zeros_and_endless_waits_are_values_too():
    sketch = Sketch()
    for value in (0.0, 0.0, 0.0, 1e30):
        sketch.add(value)
    assert sketch.quantile(0.5) == 0.0
    assert sketch.quantile(1.0) == pytest.approx(1e7, rel=0.1)


def programs(lengths):
    """Learned from programs of these lengths, one after the other."""
    learned = Lengths()
    for length in lengths:
        for call in range(1, length + 1):
            learned.add(call)
    return learned


def test_equally_long_programs_leave_no_doubt():
    learned = programs([7] * 50)
    assert [learned.expected_after(calls) for calls in (1, 3, 7)] == pytest.approx([6.0, 4.0, 0.0])
    assert learned.quantile_after(2, 0.5) == learned.quantile_after(2, 0.99) == 5
    assert learned.expected_after(9) == learned.observations(9) == learned.quantile_after(9, 0.9) == 0


@given(lengths=st.lists(st.integers(1, 15), min_size=1, max_size=20), calls=st.integers(1, 15))
def test_what_is_left_is_the_mean_of_the_programs_that_came_as_far(lengths, calls):
    learned = programs(lengths)
    weights = [0.99 ** (len(lengths) - 1 - number) for number in range(len(lengths))]
    longer = [(length - calls, weight) for length, weight in zip(lengths, weights, strict=True) if length >= calls]
    total = sum(weight for _, weight in longer)
    assert learned.observations(calls) == pytest.approx(total)
    if longer:
        expected = sum(left * weight for left, weight in longer) / total
        assert learned.expected_after(calls) == pytest.approx(expected)
        least = min(left for left, _ in longer)
        most = max(left for left, _ in longer)
        assert learned.quantile_after(calls, 1e-6) == least
        assert least <= learned.quantile_after(calls, 0.5) <= learned.quantile_after(calls, 0.999) <= most


def test_long_programs_are_known_to_an_eighth():
    lengths = [100 + 10 * (37 * number % 90) for number in range(270)]
    learned = programs(lengths)
    longer = [length - 300 for length in lengths if length >= 300]
    assert learned.expected_after(300) == pytest.approx(fmean(longer), rel=0.1)
    assert learned.quantile_after(300, 0.5) == pytest.approx(sorted(longer)[len(longer) // 2], rel=0.2)


def test_programs_under_way_are_learned_from():
    """Nobody said that these have ended."""
    learned = Lengths()
    for _ in range(10):
        for call in (1, 2, 3):
            learned.add(call)
    assert learned.expected_after(1) == pytest.approx(2.0)
