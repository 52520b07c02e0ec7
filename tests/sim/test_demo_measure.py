"""Sums over calls: means, percentiles, hit rate, errors."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.demo.measure import Call, percentile, requests_by_replica, summarise


def test_nothing_answered_is_no_summary():
    assert summarise([]) is None
    assert summarise([Call(error="refused")]) is None


def test_a_summary_has_the_keys_of_the_json_file():
    assert set(dataclasses.asdict(summarise([Call(prompt_tokens=1)]))) == {
        "ttft_mean_s",
        "ttft_p95_s",
        "e2e_mean_s",
        "e2e_p95_s",
        "prefix_hit_rate",
        "prefill_tokens_computed",
        "requests",
        "errors",
    }


def test_times_are_means_and_percentiles_of_answered_calls():
    calls = [Call(ttft_s=each, e2e_s=10 * each, prompt_tokens=1) for each in (4.0, 1.0, 3.0, 2.0)]
    summary = summarise([*calls, Call(ttft_s=100.0, error="broken")])
    assert (summary.ttft_mean_s, summary.ttft_p95_s) == (2.5, 4.0)
    assert (summary.e2e_mean_s, summary.e2e_p95_s) == (25.0, 40.0)


def test_the_hit_rate_is_by_tokens_and_not_by_requests():
    summary = summarise([Call(prompt_tokens=900, cached_tokens=800), Call(prompt_tokens=100, cached_tokens=0)])
    assert summary.prefix_hit_rate == 0.8
    assert summary.prefill_tokens_computed == 200


def test_errors_are_requests_too():
    summary = summarise([Call(prompt_tokens=5), Call(error="refused"), Call(error="refused")])
    assert (summary.requests, summary.errors) == (3, 2)
    assert summary.prefill_tokens_computed == 5


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_the_least_value_that_enough_values_do_not_exceed(values, share):
    result = percentile(sorted(values), share)
    assert result in values
    assert sum(value <= result for value in values) >= share * len(values)
    assert sum(value < result for value in values) < share * len(values)


def test_requests_are_counted_per_replica():
    calls = [Call(replica="b"), Call(replica="a"), Call(replica="b"), Call(error="refused")]
    assert requests_by_replica(calls) == {"a": 1, "b": 2}


def test_a_perfect_cache_computes_nothing():
    assert summarise([Call(prompt_tokens=64, cached_tokens=64)]).prefix_hit_rate == pytest.approx(1.0)
