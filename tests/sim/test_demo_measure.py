"""Sums over calls: means, percentiles, hit rate, errors."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.demo.measure import Call, percentile, summarise


def test_nothing_answered_is_no_summary():
    assert summarise([]) is None
    assert summarise([Call(error="refused")]) is None


def test_a_summary_has_the_keys_of_the_json_file():
    assert set(dataclasses.asdict(summarise([Call(prompt_tokens=1)]))) == {
        "ttft_mean_s",
        "ttft_p95_s",
        "program_mean_s",
        "program_p95_s",
        "prefix_hit_rate",
        "prefill_tokens_computed",
        "recomputed_tokens",
        "programs",
        "requests",
        "errors",
    }


def test_times_are_means_and_percentiles_of_answered_calls():
    calls = [Call(ttft_s=each, prompt_tokens=1) for each in (4.0, 1.0, 3.0, 2.0)]
    summary = summarise([*calls, Call(ttft_s=100.0, error="broken")])
    assert (summary.ttft_mean_s, summary.ttft_p95_s) == (2.5, 4.0)


def test_programs_count_once_they_are_complete():
    before = summarise([Call(prompt_tokens=1)])
    assert (before.programs, before.program_mean_s, before.program_p95_s) == (0, 0.0, 0.0)
    after = summarise([Call(prompt_tokens=1)], [30.0, 10.0, 20.0])
    assert (after.programs, after.program_mean_s, after.program_p95_s) == (3, 20.0, 30.0)


def test_what_a_program_sent_before_and_no_cache_holds_is_computed_again():
    first = Call(prompt_tokens=1000, cached_tokens=480, sent_tokens=0)
    kept = Call(prompt_tokens=1500, cached_tokens=1008, sent_tokens=1000)
    lost = Call(prompt_tokens=2000, cached_tokens=480, sent_tokens=1500)
    summary = summarise([first, kept, lost])
    assert summary.recomputed_tokens == 1020
    assert summary.prefill_tokens_computed == 520 + 492 + 1520


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


def test_a_perfect_cache_computes_nothing():
    assert summarise([Call(prompt_tokens=64, cached_tokens=64)]).prefix_hit_rate == pytest.approx(1.0)
