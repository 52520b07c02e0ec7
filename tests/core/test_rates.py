import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.rates import PrefillRate


def learned(observations):
    rate = PrefillRate()
    for tokens, seconds in observations:
        rate.observe(tokens, seconds)
    return rate


def test_the_overhead_of_a_request_is_not_taken_for_slowness():
    rate = learned((tokens, 0.040 + tokens / 8000) for tokens in (10, 500, 4000, 100, 12000))
    assert rate.tokens_per_s() == pytest.approx(8000)


def test_prompts_of_one_length_give_the_plain_mean():
    rate = learned([(1000, 0.5)] * 5)
    assert rate.tokens_per_s() == pytest.approx(2000)


def test_nothing_is_known_before_a_few_answers():
    assert not learned([(1000, 0.5)]).known
    assert not learned([(0, 0.1)] * 10).known


def test_a_replica_that_becomes_slower_is_noticed():
    rate = learned([(tokens, tokens / 8000) for tokens in (100, 4000) * 50])
    for tokens in (100, 4000) * 100:
        rate.observe(tokens, tokens / 1000)
    assert rate.tokens_per_s() == pytest.approx(1000, rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1000)), min_size=3, max_size=30))
def test_the_rate_stays_a_sane_number(observations):
    assert 50 <= learned(observations).tokens_per_s() <= 10**7
