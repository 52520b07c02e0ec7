"""What each shipped scorer prefers, and by how much."""

import pytest

from router.core.types import LoadReport
from scorers.in_flight_tokens import InFlightTokens
from scorers.kv_utilisation import KvUtilisation
from scorers.lora_affinity import LoraAffinity
from scorers.no_hit_lru import NoHitLru
from scorers.predicted_ttft import PredictedTtft
from scorers.prefix_cache import PrefixCache
from scorers.queue_depth import QueueDepth
from scorers.registry import SHIPPED
from scorers.running_requests import RunningRequests
from scorers.session_affinity import SessionAffinity


@pytest.mark.parametrize("scorer", SHIPPED.values(), ids=SHIPPED)
@pytest.mark.parametrize("tokens", [0, 100])
def test_scores_are_between_0_and_1_even_when_nothing_is_known(scene, scorer, tokens):
    scores = scene.score(scorer(), tokens=tokens)
    assert len(scores) == 3
    assert all(0 <= score <= 1 for score in scores)
    assert len(set(scores)) == 1


def test_prefix_cache_is_the_share_of_the_prompt_held_by_tier(scene):
    scene.gpu, scene.cpu, scene.disk = [80, 40, 0], [0, 40, 0], [0, 0, 80]
    assert scene.score(PrefixCache()) == pytest.approx([0.8, 0.4 + 0.3, 0.2])
    assert scene.score(PrefixCache(cpu_weight=1.0, disk_weight=0.0)) == pytest.approx([0.8, 0.8, 0.0])


def test_queue_depth_counts_own_and_foreign_requests_that_wait(scene):
    scene.load.dispatch(0, 100, 100)
    scene.load.report(1, LoadReport(running=0, waiting=2, kv_usage=0))
    assert scene.score(QueueDepth()) == [0.5, 0, 1]


def test_running_requests_counts_all_that_are_there(scene):
    scene.load.dispatch(0, 100, 100)
    scene.load.start(0, 100)
    scene.load.report(1, LoadReport(running=4, waiting=0, kv_usage=0))
    assert scene.score(RunningRequests()) == [0.75, 0, 1]


def test_kv_utilisation_is_what_is_left(scene):
    scene.load.report(0, LoadReport(running=0, waiting=0, kv_usage=0.25))
    scene.load.report(1, LoadReport(running=0, waiting=0, kv_usage=1.5))
    assert scene.score(KvUtilisation()) == [0.75, 0, 1]


def test_in_flight_tokens_weighs_against_capacity(scene):
    scene.load.dispatch(0, 1000, 0)
    scene.load.dispatch(1, 3000, 0)
    assert scene.score(InFlightTokens()) == [0.5, 0.25, 1]


def test_in_flight_tokens_believes_a_higher_report(scene):
    scene.load.report(0, LoadReport(running=0, waiting=0, kv_usage=1.0))
    assert scene.score(InFlightTokens()) == [0.5, 1, 1]


def test_predicted_ttft_weighs_the_queue_and_the_own_uncached_prompt(scene):
    scene.load.prefill_rate[:] = 100.0
    scene.gpu = [100, 0, 0]
    scene.load.dispatch(0, 100, 100)
    scene.load.dispatch(1, 100, 100)
    assert scene.score(PredictedTtft(overhead_s=0)) == pytest.approx([1, 0.5, 1])


def test_predicted_ttft_knows_slower_replicas(scene):
    scene.load.prefill_rate[:] = [100.0, 50.0, 200.0]
    assert scene.score(PredictedTtft(overhead_s=0)) == pytest.approx([0.5, 0.25, 1])


def test_session_affinity_returns_to_the_last_replica_until_the_session_is_old(scene):
    scorer = SessionAffinity(ttl_s=10)
    assert scene.score(scorer, session_id="s") == [0, 0, 0]
    scene.dispatch(scorer, 1, session_id="s")
    assert scene.score(scorer, session_id="s") == [0, 1, 0]
    assert scene.score(scorer, session_id="other") == [0, 0, 0]
    assert scene.score(scorer) == [0, 0, 0]
    scene.now = 11.0
    assert scene.score(scorer, session_id="s") == [0, 0, 0]


def test_session_affinity_keeps_a_bounded_number_of_sessions(scene):
    scorer = SessionAffinity(max_sessions=2)
    for session in ("one", "two", "one", "three"):
        scene.dispatch(scorer, 0, session_id=session)
    assert scene.score(scorer, session_id="two") == [0, 0, 0]
    assert scene.score(scorer, session_id="one") == [1, 0, 0]


def test_lora_affinity_prefers_a_loaded_adapter_then_the_emptiest(scene):
    scene.load.report(0, LoadReport(0, 0, 0, active_adapters=frozenset({"sql"})))
    scene.load.report(1, LoadReport(0, 0, 0, active_adapters=frozenset({"law", "tax"})))
    assert scene.score(LoraAffinity(), model="sql") == [1, 0.25, 0.5]
    assert scene.score(LoraAffinity(), model="m") == [1, 1, 1]


def test_no_hit_lru_sends_cold_prompts_where_the_last_cold_one_was_longest_ago(scene):
    scorer = NoHitLru()
    for position in (2, 0, 1):
        scene.dispatch(scorer, position)
    assert scene.score(scorer) == [0.5, 0, 1]


def test_no_hit_lru_leaves_warm_prompts_alone(scene):
    scorer = NoHitLru()
    scene.gpu = [16, 0, 0]
    scene.dispatch(scorer, 0)
    assert scene.score(scorer) == [0.5, 0.5, 0.5]
    scene.gpu = [0, 0, 0]
    assert scene.score(scorer) == [1, 1, 1]
