"""Preble's E2: when it exploits, what it explores by, and what it looks back on."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.core.types import Decision, Prompt, Request, Ticket, Usage
from scorers.peers.preble import Preble
from scorers.peers.preble_window import Window, prefill_s


@pytest.mark.parametrize(
    ("tokens", "context_tokens", "milliseconds"),
    [
        (100, 1000, 22 + 0.32),
        (200, 1000, -118 + 1.25 * 200 - 2.56e-3 * 200**2 + 0.32),
        (1000, 10_000, 0.115 * 1000 - 1.13 + (1.86e-4 * 10_000 + 0.159) / 2),
        (2000, 10_000, 0.115 * 2000 - 1.13 + 1.86e-4 * 10_000 + 0.159),
        (5000, 5000, 0.115 * 5000 - 1.13 + 1.86e-4 * 5000 + 0.159 - 7.37 + 3.86e-3 * 5000 + 2.16e-6 * 5000**2),
    ],
)
def test_prefill_takes_what_preble_fitted_on_an_a6000(tokens, context_tokens, milliseconds):
    assert prefill_s(tokens, context_tokens) == pytest.approx(milliseconds / 0.95 / 1000)


def asking(tokens, name="r"):
    return Request(name, "m", Prompt(np.zeros(tokens, np.uint32)))


def score(scorer, scene, tokens):
    return scorer.score(asking(tokens), scene.candidates(), scene.view()).tolist()


def send(scorer, scene, position, tokens):
    scorer.dispatched(asking(tokens), scene.candidates(), position, scene.now)


@pytest.fixture
def scene(scene):
    scene.load.capacity_tokens[:] = 1_000_000
    return scene


def test_a_prefix_of_more_than_half_is_exploited_whatever_the_load(scene):
    scorer = Preble()
    scene.gpu = [512, 0, 0]
    scene.load.started[:] = [100, 0, 0]
    assert score(scorer, scene, 1000) == [1, 0, 0]


def test_half_a_prefix_is_not_worth_the_load(scene):
    scorer = Preble()
    scene.gpu = [500, 0, 0]
    scene.load.started[:] = [100, 0, 0]
    assert score(scorer, scene, 1000) == [0, 1, 1]


def test_between_equal_matches_the_lighter_load_wins(scene):
    scorer = Preble()
    scene.gpu = [800, 800, 320]
    send(scorer, scene, 0, 5000)
    assert np.argmax(score(scorer, scene, 1000)) == 1


def test_load_is_the_prefill_of_the_last_3_minutes(scene):
    scorer = Preble()
    send(scorer, scene, 0, 5000)
    scene.now = 100.0
    send(scorer, scene, 1, 4000)
    costs = scorer.cost_s(asking(1000), scene.candidates(), scene.view())
    assert costs == pytest.approx(np.array([prefill_s(5000, 5000), prefill_s(4000, 4000), 0]) + prefill_s(1000, 1000))
    scene.now = 200.0
    costs = scorer.cost_s(asking(1000), scene.candidates(), scene.view())
    assert costs == pytest.approx(np.array([0, prefill_s(4000, 4000), 0]) + prefill_s(1000, 1000))


def test_only_what_was_missed_is_prefilled(scene):
    scorer = Preble()
    scene.gpu = [0, 0, 4800]
    send(scorer, scene, 2, 5000)
    scene.gpu = [0, 0, 0]
    cost = scorer.cost_s(asking(1000), scene.candidates(), scene.view())[2]
    assert cost == pytest.approx(prefill_s(200, 5000) + prefill_s(1000, 1000))


def test_requests_in_flight_have_to_be_decoded(scene):
    scorer = Preble()
    scene.load.started[:] = [2, 0, 0]
    idle, busy = scorer.cost_s(asking(100), scene.candidates(), scene.view())[[1, 0]]
    assert busy - idle == pytest.approx(2 * 45 * 0.15)


def test_answers_teach_how_long_decoding_takes():
    window = Window()
    ticket = Ticket(asking(10), 0.0, dispatched_s=10.0)
    for _ in range(200):
        window.answered(ticket, Usage(completion_tokens=100), 12.0)
    assert window.load_s(3.0) == pytest.approx(3 * 100 * 0.02)


def test_answers_without_usage_teach_nothing(scene):
    scorer = Preble()
    replica = scene.candidates().replicas[0]
    before = scorer.cost_s(asking(100), scene.candidates(), scene.view()).tolist()
    scorer.ended(Ticket(asking(10), 0.0, Decision(replica, 0), dispatched_s=0.0), None, 50.0)
    assert scorer.cost_s(asking(100), scene.candidates(), scene.view()).tolist() == before


class TestEviction:
    """A memory of 1,000 tokens."""

    @pytest.fixture
    def window(self):
        window = Window()
        window.add(600, 600, 0.0)
        window.add(300, 900, 1.0)
        return window

    def test_it_is_free_while_what_was_used_lately_fits(self, window):
        assert window.eviction_s(100, 1000) == 0

    def test_the_least_recently_sent_goes_first(self, window):
        assert window.eviction_s(200, 1000) == pytest.approx(prefill_s(600, 600))

    def test_small_parts_of_long_prompts_cost_nothing(self, window):
        assert window.eviction_s(900, 1000) == pytest.approx(prefill_s(600, 600))

    def test_what_is_older_than_the_window_is_free(self, window):
        window.expire(180.5)
        assert window.eviction_s(1000, 1000) == 0


candidate = st.tuples(st.integers(0, 10), st.integers(0, 5), st.lists(st.integers(1, 6000), max_size=3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(candidate, candidate, candidate))
def test_scores_order_as_e2_does(scene, candidates):
    scene, scorer = type(scene)(), Preble()
    scene.load.capacity_tokens[:] = 1_000_000
    for position, (_, _, sent) in enumerate(candidates):
        for tokens in sent:
            send(scorer, scene, position, tokens)
    scene.gpu = [blocks * 16 for blocks, _, _ in candidates]
    scene.load.started[:] = [count for _, count, _ in candidates]
    scores = score(scorer, scene, 160)
    best = e2(candidates)
    assert [number for number in range(3) if scores[number] == max(scores)] == best


def e2(candidates):
    """The replicas of the least cost among those that are considered, as a plain loop."""
    longest = max(blocks for blocks, _, _ in candidates)
    considered = [n for n in range(3) if longest <= 5 or candidates[n][0] == longest]
    costs = {}
    for number in considered:
        blocks, count, sent = candidates[number]
        costs[number] = sum(prefill_s(tokens, tokens) for tokens in sent) + count * (45 * 0.15)
        costs[number] += prefill_s(160 - blocks * 16, 160)
    return [number for number in considered if costs[number] == min(costs.values())]
