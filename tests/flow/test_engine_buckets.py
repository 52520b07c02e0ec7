"""Engine priorities: which bucket a cost is in."""

from hypothesis import given
from hypothesis import strategies as st

from flow.orders.buckets import BUCKETS, USUAL, Buckets


def buckets_of(*costs_s):
    buckets = Buckets()
    for cost_s in costs_s:
        buckets.learn(cost_s)
    return buckets


def test_a_bucket_is_a_factor_of_two_around_the_usual_cost():
    buckets = buckets_of(4.0)
    costs_s = (0.1, 0.6, 1.1, 2.1, 4.1, 8.1, 16.1, 33.0, 1e9)
    assert [buckets.of(cost_s) for cost_s in costs_s] == [0, 1, 2, 3, 4, 5, 6, 7, 7]


def test_what_costs_nothing_goes_first_and_says_nothing_of_what_is_usual():
    buckets = buckets_of(8.0, 0.0, 0.0)
    assert (buckets.of(0.0), buckets.of(9.0)) == (0, USUAL)


def test_what_was_usual_is_forgotten():
    buckets = buckets_of(*[1000.0] * 100, *[1.0] * 500)
    assert buckets.of(1000.0) == BUCKETS - 1


costs = st.floats(1e-6, 1e9)


@given(st.lists(costs, min_size=1), costs, costs, st.floats(1e-3, 1e3))
def test_a_larger_cost_never_goes_first_and_a_quicker_model_changes_nothing(seen, one, other, speed):
    buckets, quicker = buckets_of(*seen), buckets_of(*(cost_s / speed for cost_s in seen))
    assert 0 <= buckets.of(min(one, other)) <= buckets.of(max(one, other)) < BUCKETS
    assert abs(buckets.of(one) - quicker.of(one / speed)) <= 1
