"""llm-d: three weighted scorers, and prefix affinity as a filter before the fewest tokens."""

from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.config import ProfileConfig
from router.core.types import LoadReport, Prompt, Request
from router.profiles import make_profile
from scorers.peers.llm_d_token_load import LlmDTokenLoad
from sim.policies import llm_d

RATE = 15_928


@pytest.fixture
def scorer():
    return LlmDTokenLoad()


def test_the_least_loaded_wins_when_nobody_holds_four_fifths(scene, scorer):
    scene.gpu = [784, 0, 0]
    scene.load.prefill_tokens[:] = [800, 0, 100]
    assert scene.score(scorer, tokens=1000) == [0.5, 1, 0]


def test_whoever_holds_four_fifths_keeps_it(scene, scorer):
    scene.gpu = [800, 960, 0]
    scene.load.prefill_tokens[:] = [100, 400, 0]
    assert scene.score(scorer, tokens=1000) == [1, 0.5, 0]


def test_the_requests_own_uncached_tokens_count(scene, scorer):
    scene.gpu = [0, 320, 0]
    scene.load.prefill_tokens[:] = [0, 300, 0]
    assert scene.score(scorer, tokens=1000) == [0, 1, 0]


@pytest.mark.parametrize(("behind_tokens", "stays"), [(18 * RATE, True), (18 * RATE + 1, False)])
def test_affinity_breaks_when_it_costs_more_than_18_s(scene, scorer, behind_tokens, stays):
    scene.gpu = [960, 0, 0]
    scene.load.prefill_tokens[:] = [500 + behind_tokens, 500, 600]
    assert (scene.score(scorer, tokens=1000)[0] == 1) == stays


def test_affinity_holds_when_everybody_is_sticky(scene, scorer):
    scene.gpu = [960, 960, 960]
    scene.load.prefill_tokens[:] = [0, 30 * RATE, 60 * RATE]
    assert scene.score(scorer, tokens=1000) == [1, 0.5, 0]


def test_beyond_the_threshold_all_loads_are_alike(scene):
    scene.load.prefill_tokens[:] = [3000, 5000, 0]
    assert scene.score(LlmDTokenLoad(queue_threshold_tokens=2000), tokens=100) == [0, 0, 1]


candidate = st.tuples(st.integers(0, 6), st.integers(0, 3 * RATE))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(candidate, candidate, candidate))
def test_scores_order_as_filter_then_load(scene, candidates):
    scene = type(scene)()
    scene.gpu = [blocks * 16 for blocks, _ in candidates]
    scene.load.prefill_tokens[:] = [tokens for _, tokens in candidates]
    scores = scene.score(LlmDTokenLoad(max_ttft_penalty_ms=1000), tokens=6 * 16 + 1)
    kept = filtered(candidates)
    load = [tokens + 97 - blocks * 16 for blocks, tokens in candidates]
    for one in range(3):
        for two in range(3):
            worse = (one not in kept, load[one]) > (two not in kept, load[two])
            assert (scores[one] < scores[two]) == worse


def filtered(candidates):
    """llm-d's filter with a penalty of a second, as a plain loop."""
    sticky = [number for number, (blocks, _) in enumerate(candidates) if blocks / 6 >= 0.8]
    others = [number for number in range(3) if number not in sticky]
    if not sticky:
        return others
    if others:
        best_sticky = min(candidates[number][1] for number in sticky)
        best_other = min(candidates[number][1] for number in others)
        if best_sticky / RATE - best_other / RATE > 1.0:
            return [0, 1, 2]
    return sticky


def test_the_policy_weighs_prefix_3_queue_2_and_kv_usage_2(scene):
    profile = make_profile("llm-d", ProfileConfig.model_validate(llm_d.POLICY.profile))
    scene.gpu = [80, 0, 0]
    scene.load.queued[:] = [4, 1, 0]
    for slot, usage in enumerate([0.5, 0.25, 0.0]):
        scene.load.report(slot, LoadReport(running=0, waiting=0, kv_usage=usage))
    request = Request("r", "m", Prompt(np.zeros(160, np.uint32)), explain=True)
    position, why, _ = profile.choose(request, scene.candidates(), scene.view(), Random(0))
    assert why.totals == pytest.approx([3 * 0.5 + 0 + 2 * 0.5, 2 * 0.75 + 2 * 0.75, 2 + 2])
    assert position == 2


def test_the_policy_counts_the_host_tier_for_four_fifths(scene):
    profile = make_profile("llm-d", ProfileConfig.model_validate(llm_d.POLICY.profile))
    scene.gpu, scene.cpu = [80, 0, 0], [0, 80, 0]
    request = Request("r", "m", Prompt(np.zeros(160, np.uint32)), explain=True)
    _, why, _ = profile.choose(request, scene.candidates(), scene.view(), Random(0))
    assert why.scores["prefix-cache"] == pytest.approx([0.5, 0.4, 0])
