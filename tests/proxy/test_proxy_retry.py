"""Retries are a share of the requests."""

from hypothesis import given
from hypothesis import strategies as st

from router.proxy.retry import RetryBudget


@given(st.floats(0, 1), st.integers(0, 10), st.lists(st.booleans(), max_size=200))
def test_retries_never_exceed_burst_and_share(share, burst, wants_retry):
    budget = RetryBudget(share, burst)
    retries = 0
    for requests, wanted in enumerate(wants_retry, start=1):
        budget.deposit()
        retries += wanted and budget.withdraw()
        assert retries <= burst + share * requests + 1e-6


def test_unused_retries_are_kept_up_to_the_burst_only():
    budget = RetryBudget(share=0.5, burst=2)
    for _ in range(100):
        budget.deposit()
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]
    budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()
