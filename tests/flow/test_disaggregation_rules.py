"""Rules of disaggregation: where a prompt is computed."""

import pytest

from flow.disaggregation.always import Always
from flow.disaggregation.min_uncached import MinUncached
from flow.disaggregation.never import Never
from flow.disaggregation.predicted_cost import PredictedCost
from flow.registry import RULES, UnknownPartError, make_rule
from router.core.disaggregation.rule import Way, Ways


def way(uncached=1000, queued=0, running=0, rate=10_000):
    return Way("r", 2000, 2000 - uncached, queued, queued > 0, running, rate)


def ways(here, elsewhere=None, transfer_s=0.05):
    return Ways(here, elsewhere or way(), transfer_s)


def test_always_and_never_look_at_nothing():
    assert Always().disaggregates(ways(way(uncached=1)))
    assert not Never().disaggregates(ways(way(uncached=2000, queued=10**6)))


def test_min_uncached_looks_at_what_the_decode_replica_lacks():
    rule = MinUncached(512)
    assert not rule.disaggregates(ways(way(uncached=511)))
    assert rule.disaggregates(ways(way(uncached=512)))


def test_an_idle_decode_replica_spares_the_transfer():
    assert not PredictedCost().disaggregates(ways(way()))


def test_a_queue_at_the_decode_replica_or_a_better_prefix_elsewhere_sends_prompts_there():
    assert PredictedCost().disaggregates(ways(way(queued=2000)))
    assert PredictedCost().disaggregates(ways(way(uncached=2000), way(uncached=100)))


def test_a_queue_at_the_prefill_replica_or_a_slow_network_keeps_prompts_where_they_are_answered():
    assert not PredictedCost().disaggregates(ways(way(running=4), way(queued=2000)))
    assert not PredictedCost().disaggregates(ways(way(running=4), transfer_s=1.0))


def test_answers_under_way_weigh_by_how_many_they_are():
    rule = PredictedCost(stall_weight=0.1)
    assert not rule.disaggregates(ways(way(running=4)))
    assert rule.disaggregates(ways(way(running=6)))


def test_answers_are_never_stalled_for_long_whatever_it_costs():
    slow = way(queued=100_000)
    assert PredictedCost(max_stall_s=0.25).disaggregates(ways(way(uncached=2000, queued=600, running=1), slow))
    assert not PredictedCost(max_stall_s=0.25).disaggregates(ways(way(uncached=2000, running=1), slow))


def test_a_prefill_pool_that_is_far_too_small_is_passed_by():
    here = way(uncached=2000, queued=5000, running=1)
    assert PredictedCost(max_detour_s=30).disaggregates(ways(here, way(queued=250_000)))
    assert not PredictedCost(max_detour_s=30).disaggregates(ways(here, way(queued=350_000)))


@pytest.mark.parametrize("name", sorted(RULES))
def test_rules_are_found_by_the_name_that_they_tell(name):
    assert make_rule(name, {}).name == name


def test_an_unknown_rule_or_parameter_is_an_error_that_says_what_is_allowed():
    with pytest.raises(UnknownPartError, match="predicted-cost"):
        make_rule("sometimes", {})
    with pytest.raises(UnknownPartError, match="max_stall_s"):
        make_rule("predicted-cost", {"stall": 1})
