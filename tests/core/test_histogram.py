from hypothesis import given
from hypothesis import strategies as st

from router.core.histogram import Histogram


@given(st.lists(st.floats(0, 1000)))
def test_each_bound_counts_the_values_up_to_it(values):
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in values:
        histogram.observe(value)
    expected = [(str(bound), sum(value <= bound for value in values)) for bound in histogram.bounds]
    assert list(histogram.cumulative()) == [*expected, ("+Inf", len(values))]
    assert histogram.total == sum(values)
