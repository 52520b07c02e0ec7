"""The façade: facts in with their time, decisions out."""

import json

import numpy as np
import pytest
from house import House, prompt

from router.core.fleet import MAX_REPLICAS
from router.core.index.batch import KvBatch
from router.core.types import Health, IndexState, LoadReport, Outcome, RefusalReason, Usage


def test_requests_go_where_the_prefix_is():
    house = House(4)
    content = prompt(("system", 256), ("question", 64))
    house.stored("r2", content)
    ticket = house.ask(content)
    assert ticket.decision.replica.name == "r2"
    assert ticket.decision.cached_tokens == 304


def test_a_block_that_ends_the_prompt_is_always_computed_again():
    house = House(1)
    content = prompt(("system", 64))
    house.stored("r0", content)
    assert house.ask(content).decision.cached_tokens == 48


def test_removed_blocks_no_longer_attract():
    house = House(2)
    content = prompt(("system", 64), ("question", 16))
    house.stored("r1", content)
    house.router.on_kv_events("r1", KvBatch.removed(np.array([1000], dtype=np.uint64)), house.now)
    assert house.ask(content).decision.cached_tokens == 0


@pytest.mark.parametrize("other", [{"cache_salt": "tenant"}, {"model": "sql"}])
def test_other_salts_and_adapters_share_nothing(other):
    house = House(1, adapters=("sql",))
    content = prompt(("system", 64))
    house.stored("r0", content)
    assert house.ask(content, **other).decision.cached_tokens == 0
    assert house.ask(content).decision.cached_tokens == 48


def test_what_was_just_sent_counts_as_held_until_it_expires():
    house = House(4)
    content = prompt(("system", 640))
    first = house.route(content)
    assert house.ask(content).decision.replica.name == first
    house.now += house.router.settings.predicted_ttl_s + 1
    assert house.ask(content).decision.cached_tokens == 0


def test_replicas_without_events_are_remembered_within_their_capacity():
    house = House(2, reports_events=False, capacity_blocks=10)
    content = prompt(("system", 64))
    name = house.route(content)
    house.now += 3600
    assert house.ask(content).decision.cached_tokens == 48
    other = prompt(("long", 160))
    assert house.route(other, subset=frozenset({name})) == name
    assert house.ask(content, subset=frozenset({name})).decision.cached_tokens == 0


def test_text_prompts_are_remembered_even_where_events_are_reported():
    house = House(1)
    content = prompt(("text", 64), exact=False)
    house.route(content)
    house.now += 3600
    assert house.ask(content).decision.cached_tokens == 48


def test_mixed_block_sizes_are_each_matched_by_their_own():
    house = House(0)
    house.add("small", reports_events=False)
    house.add("large", reports_events=False, block_size_tokens=64)
    content = prompt(("system", 100))
    for name in ("small", "large"):
        house.route(content, subset=frozenset({name}))
    explanation = house.ask(content, explain=True).decision.explanation
    assert dict(zip(explanation.candidates, explanation.cached_tokens, strict=True)) == {"small": 96, "large": 64}


def test_an_unknown_model_is_refused_with_what_there_is():
    refusal = House(1).ask(model="gpt").refusal
    assert refusal.reason is RefusalReason.UNKNOWN_MODEL
    assert "gpt" in refusal.message
    assert "m" in refusal.message


@pytest.mark.parametrize("health", [Health.STARTING, Health.UNHEALTHY, Health.DRAINING])
def test_without_a_healthy_replica_clients_are_told_to_come_back(health):
    house = House(1)
    house.router.on_health("r0", health, house.now)
    refusal = house.ask().refusal
    assert refusal.reason is RefusalReason.NO_REPLICA
    assert refusal.retry_after_s > 0


def test_no_fleet_yet_is_no_replica_rather_than_no_model():
    house = House(0)
    assert house.ask(model="anything").refusal.reason is RefusalReason.NO_REPLICA
    house.add("starting", models=())
    assert house.ask(model="anything").refusal.reason is RefusalReason.NO_REPLICA
    assert house.ask(model="").refusal.reason is RefusalReason.NO_REPLICA


def test_a_replica_that_failed_the_request_is_not_asked_again():
    house = House(2)
    assert house.route(excluded=frozenset({"r0"})) == "r1"
    assert house.ask(excluded=frozenset({"r0", "r1"})).refusal.reason is RefusalReason.NO_REPLICA


def test_adapters_are_served_only_where_they_are():
    house = House(2)
    house.add("r2", adapters=("sql",))
    assert {house.route(model="sql") for _ in range(5)} == {"r2"}


def test_a_restart_forgets_the_replicas_blocks():
    house = House(1)
    content = prompt(("system", 64))
    house.stored("r0", content)
    house.router.on_index_reset("r0", house.now)
    assert house.ask(content).decision.cached_tokens == 0


def test_a_degraded_index_is_dropped_and_shown():
    house = House(1)
    content = prompt(("system", 64))
    house.stored("r0", content)
    house.router.on_index_state("r0", IndexState.SYNCED, house.now)
    assert house.router.index.held_blocks(0) == 4
    house.router.on_index_state("r0", IndexState.DEGRADED, house.now)
    assert house.router.index.held_blocks(0) == 0
    assert house.router.fleet.index_states[0] is IndexState.DEGRADED


def test_a_replica_that_left_leaves_nothing_to_the_next_in_its_slot():
    house = House(1)
    content = prompt(("system", 64))
    house.stored("r0", content)
    ticket = house.ask(content)
    house.router.on_replica_gone("r0", house.now)
    house.add("new")
    house.router.on_response_end(ticket, None, Outcome.FAILED, house.now)
    assert house.ask(content).decision.cached_tokens == 0
    assert house.router.load.started[0] == 0
    assert house.router.load.queued[0] == 1


def test_facts_about_strangers_are_harmless():
    house = House(0)
    content = prompt(("system", 64))
    house.stored("nobody", content)
    house.router.on_load("nobody", LoadReport(1, 1, 0.5), house.now)
    house.router.on_health("nobody", Health.HEALTHY, house.now)
    house.router.on_index_reset("nobody", house.now)
    house.router.on_index_state("nobody", IndexState.SYNCED, house.now)
    house.router.on_replica_gone("nobody", house.now)
    assert house.router.stats.events_of_unknown_replica == 1


def test_a_forgotten_request_is_given_up_and_counted():
    house = House(1)
    ticket = house.ask(prompt(("system", 64)))
    assert house.router.next_wakeup() == house.now + house.router.settings.in_flight_timeout_s
    house.now = house.router.next_wakeup()
    house.router.poll(house.now)
    assert house.router.stats.timed_out_in_flight == 1
    assert house.router.load.queued[0] == 0
    assert house.router.next_wakeup() is None
    house.router.on_response_end(ticket, None, Outcome.OK, house.now)
    assert house.router.stats.ended[Outcome.OK] == 0


def test_usage_says_how_good_the_prediction_was():
    house = House(1)
    content = prompt(("system", 64))
    house.stored("r0", content)
    ticket = house.ask(content)
    house.router.on_response_end(ticket, Usage(64, 48, 10), Outcome.OK, house.now)
    stats = house.router.stats
    assert (stats.predicted_cached_tokens, stats.reported_cached_tokens) == (48, 48)
    assert (stats.prompt_tokens, stats.reported_prompt_tokens) == (64, 64)


def test_an_explanation_names_candidates_scores_and_the_winner():
    house = House(2)
    content = prompt(("system", 64))
    house.stored("r1", content)
    told = json.loads(house.ask(content, explain=True).decision.explanation.to_json())
    assert told["winner"] == "r1"
    row = next(row for row in told["candidates"] if row["replica"] == "r1")
    assert row["cached_tokens"] == 48
    assert row["scores"]["added-cost"] == 1.0
    assert row["total"] == pytest.approx(sum(told["weights"][name] * row["scores"][name] for name in told["weights"]))


def test_a_request_may_name_its_profile():
    house = House(3)
    assert house.ask(profile="round-robin", explain=True).decision.explanation.profile == "round-robin"
    assert house.ask(profile="no such", explain=True).decision.explanation.profile == "default"


@pytest.mark.parametrize(("asked", "named"), [(0, []), (1, ["r2"]), (9, ["r2", "r0"])])
def test_the_next_best_are_named_best_first_and_nothing_is_counted_for_them(asked, named):
    house = House(3)
    content = prompt(("system", 256))
    house.stored("r1", content)
    house.stored("r2", prompt(("system", 128)))
    ticket = house.ask(content, fallbacks=asked)
    assert ticket.decision.replica.name == "r1"
    assert [spec.name for spec in ticket.decision.fallbacks] == named
    assert (house.router.in_flight, house.router.load.queued.sum()) == (1, 1)


def test_equal_facts_give_equal_decisions():
    def story():
        house = House(5)
        return [house.route(prompt(("system", 64), (f"q{number % 7}", 32))) for number in range(50)]

    assert story() == story()


def test_a_thousand_replicas_are_routed_to():
    house = House(MAX_REPLICAS)
    content = prompt(("system", 64))
    house.stored(f"r{MAX_REPLICAS - 1}", content)
    assert house.route(content) == f"r{MAX_REPLICAS - 1}"
