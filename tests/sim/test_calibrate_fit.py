"""Fitting the engine model: what it made itself it finds again, and outliers move it little."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.calibrate.batch_limit import Range, read_gaps
from sim.calibrate.fit import fit
from sim.calibrate.observation import Kind, Observation, decode_step, prefill
from sim.engine import Engine, EngineConfig, Frontend, Request, StepTime
from sim.engine.step_time import PS_PER_S

BUDGET_TOKENS = 2048
PROMPTS = [(n, cached) for n in (64, 512, 2048, 8192) for cached in (0, n // 2, n - 16)]
BATCHES = [(seqs, context) for seqs in (1, 4, 16) for context in (32, 3000)]
COEFFICIENTS = st.integers(1, 10**6)


def observe(step_time: StepTime, frontend: Frontend) -> list[Observation]:
    """What calibration would see of an engine with these coefficients, without any noise."""
    seen = []
    for tokens, cached in PROMPTS:
        steps, work = prefill(tokens, cached, BUDGET_TOKENS)
        # One request of each term's own: fixed is paid in every step, everything else once.
        step_ps = step_time.duration_ps(work) + (steps - 1) * step_time.fixed_ps
        duration_s = frontend.delay_s(tokens) + step_ps / PS_PER_S
        seen.append(Observation(Kind.PREFILL, "", duration_s, 0.0, steps, work, tokens))
    for seqs, context in BATCHES:
        work = decode_step([context] * seqs)
        seen.append(Observation(Kind.DECODE, "", step_time.duration_ps(work) / PS_PER_S, 0.0, 1, work))
    return seen


def flat(step: StepTime, frontend: Frontend) -> list[int]:
    steps = [step.fixed_ps, step.prefill_token_ps, step.attention_pair_ps, step.decode_seq_ps, step.context_token_ps]
    return [*steps, frontend.request_ps, frontend.prompt_token_ps]


@pytest.mark.parametrize(("tokens", "cached"), [(5000, 0), (5000, 2048), (2049, 0), (2048, 0), (64, 48)])
def test_the_work_of_a_prompt_is_what_the_engine_model_computes(tokens: int, cached: int) -> None:
    step_time = StepTime(7_000_003, 11_003, 17, 1_009, 13)
    config = EngineConfig(step_time, 1000, max_num_batched_tokens=BUDGET_TOKENS, max_model_len_tokens=8192)
    engine = Engine(config)
    hashes = np.arange(1, 400, dtype=np.uint64)
    if cached:
        engine.submit(Request("before", cached, 1, hashes[: cached // 16]), 0.0)
        while engine.has_work:
            engine.step(0.0)
    engine.submit(Request("probe", tokens, 1, hashes[: tokens // 16]), 0.0)
    took_ps, took_steps = 0, 0
    while engine.has_work:
        took_ps += engine.step(0.0).duration_ps
        took_steps += 1
    steps, work = prefill(tokens, cached, BUDGET_TOKENS)
    assert steps == took_steps
    assert step_time.duration_ps(work) + (steps - 1) * step_time.fixed_ps == took_ps


@settings(deadline=None)
@given(
    fixed_us=st.integers(500, 50_000),
    prefill_us=st.integers(5, 500),
    pair_ns=st.integers(1, 500),
    seq_us=st.integers(10, 2000),
    context_ns=st.integers(20, 5000),
    request_us=st.integers(500, 50_000),
    prompt_token_ns=st.integers(100, 20_000),
)
def test_without_noise_every_coefficient_is_found(
    fixed_us: int, prefill_us: int, pair_ns: int, seq_us: int, context_ns: int, request_us: int, prompt_token_ns: int
) -> None:
    step = StepTime(fixed_us * 10**6, prefill_us * 10**6, pair_ns * 10**3, seq_us * 10**6, context_ns * 10**3)
    frontend = Frontend(request_us * 10**6, prompt_token_ns * 10**3)
    found = fit(observe(step, frontend))
    assert flat(found.step_time, found.frontend) == pytest.approx(flat(step, frontend), rel=1e-3)
    assert found.r2 == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_probe_that_took_thrice_as_long_moves_predictions_by_less_than_a_twentieth(seed: int) -> None:
    step, frontend = StepTime(6 * 10**9, 50 * 10**6, 50_000, 60 * 10**6, 600_000), Frontend(4 * 10**9, 3 * 10**6)
    random = Random(seed)
    clean = observe(step, frontend)
    slow = random.randrange(len(clean))
    noisy = [
        Observation(
            one.kind,
            one.what,
            one.duration_s * (3.0 if number == slow else random.uniform(0.98, 1.02)),
            one.spread,
            one.steps,
            one.work,
            one.prompt_tokens,
        )
        for number, one in enumerate(clean)
    ]
    expected = fit(noisy).expected_s
    for number, one in enumerate(clean):
        assert expected[number] == pytest.approx(one.duration_s, rel=0.05)


def test_coefficients_are_never_negative() -> None:
    """Where cached prompts come back sooner than the model allows, its terms end at zero."""
    step, frontend = StepTime(10**9, 10**6, 0, 0, 0), Frontend()
    odd = [
        Observation(one.kind, "", one.duration_s * (0.5 if one.work.context_tokens > 1000 else 1.0), 0.0, one.steps,
                    one.work, one.prompt_tokens)
        for one in observe(step, frontend)
    ]  # fmt: skip
    found = fit(odd)
    assert min(flat(found.step_time, found.frontend)) >= 0
    assert found.step_time.fixed_ps > 0


def test_too_few_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="3 observations do not determine 7 coefficients"):
        fit(observe(StepTime(1, 1, 1, 1, 1), Frontend())[:3])


@given(budget=st.sampled_from([256, 512, 1024, 2048, 4096, 8192]), chunks=st.integers(4, 20), rest=st.floats(0, 0.999))
def test_gaps_between_tokens_show_the_token_budget_of_a_step(budget: int, chunks: int, rest: float) -> None:
    """One request decodes in 10 ms a step while a prompt takes ``budget - 1`` tokens of each step, 100 us each."""
    tokens = (budget - 1) * chunks + int(rest * (budget - 1))
    gaps_s, left = [0.01] * 8, tokens
    while left > 0:
        gaps_s.append(0.01 + 1e-4 * min(left, budget - 1))
        left -= budget - 1
    gaps_s += [0.01] * (60 - len(gaps_s))
    found = read_gaps(gaps_s, tokens)
    assert found.highest is not None
    assert found.lowest <= budget <= found.highest
    assert found.settle(usual=10**6) == budget


def test_a_prompt_computed_in_one_step_shows_only_a_lower_bound() -> None:
    found = read_gaps([0.01] * 20 + [0.5] + [0.01] * 20, 4096)
    assert found == Range(2049, None)
    assert (found.settle(8192), found.settle(1024)) == (8192, None)
