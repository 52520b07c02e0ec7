"""Dynamo's default cost and its lmetric, by hand and against plain models of their formulas."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.core.types import Decision, Prompt, Request, Ticket
from scorers.peers.active_blocks import ActiveBlocks
from scorers.peers.dynamo_cost import DynamoCost
from scorers.peers.dynamo_lmetric import DynamoLMetric

BLOCK = 16


def asking(name, *blocks):
    """A request whose prompt is these blocks, each filled with one token id."""
    return Request(name, "m", Prompt(np.repeat(np.array(blocks, np.uint32), BLOCK)))


def score(scorer, scene, request):
    return scorer.score(request, scene.candidates(), scene.view())


def send(scorer, scene, request, position):
    """Sends a request whose prefill is over at once; returns its ticket."""
    scorer.dispatched(request, scene.candidates(), position, scene.now)
    return Ticket(request, 0.0, Decision(scene.candidates().replicas[position], 0))


class TestCost:
    def test_it_adds_prefill_still_to_do_and_blocks_in_use(self, scene):
        scene.gpu = [128, 0, 0]
        scene.load.dispatch(1, 32, 32)
        cost = DynamoCost().cost_blocks(asking("r", *range(10)), scene.candidates(), scene.view())
        assert cost.tolist() == [10 - 8 + 10, 10 + 2 + 10, 10 + 10]

    def test_a_block_on_the_host_is_worth_three_quarters_and_on_disk_one(self, scene):
        scene.gpu, scene.cpu, scene.disk = [64, 0, 0], [0, 64, 0], [0, 0, 64]
        cost = DynamoCost().cost_blocks(asking("r", *range(10)), scene.candidates(), scene.view())
        assert cost.tolist() == [20 - 4, 20 - 3, 20 - 1]

    def test_prefill_weighs_as_much_as_it_is_scaled(self, scene):
        scene.gpu = [80, 0, 0]
        cost = DynamoCost(prefill_load_scale=2.0).cost_blocks(asking("r", *range(10)), scene.candidates(), scene.view())
        assert cost.tolist() == [2 * 5 + 10, 2 * 10 + 10, 2 * 10 + 10]

    def test_blocks_that_requests_in_flight_share_count_once(self, scene):
        scorer = DynamoCost()
        send(scorer, scene, asking("one", 1, 2, 3, 4), 0)
        send(scorer, scene, asking("two", 1, 2, 5, 6), 0)
        cost = scorer.cost_blocks(asking("r", 1, 2, 3, 7), scene.candidates(), scene.view())
        assert cost.tolist() == [4 + 6 + 1, 4 + 4, 4 + 4]

    def test_a_request_that_ended_holds_nothing(self, scene):
        scorer = DynamoCost()
        ticket = send(scorer, scene, asking("one", 1, 2, 3, 4), 0)
        scorer.ended(ticket, None, 1.0)
        cost = scorer.cost_blocks(asking("r", 1, 2, 3, 4), scene.candidates(), scene.view())
        assert cost.tolist() == [8, 8, 8]

    def test_the_cheapest_scores_best_and_equals_alike(self, scene):
        scene.gpu = [0, 64, 0]
        assert score(DynamoCost(), scene, asking("r", *range(10))).tolist() == [0, 1, 0]

    def test_replicas_with_other_block_sizes_count_their_own_blocks(self, scene):
        scene.fleet.specs[2] = SimpleNamespace(name="c", block_size_tokens=32)
        cost = DynamoCost().cost_blocks(asking("r", *range(10)), scene.candidates(), scene.view())
        assert cost.tolist() == [20, 20, 10]


requests = st.lists(st.integers(0, 2), min_size=1, max_size=6)
moves = st.lists(st.tuples(st.sampled_from("ab"), requests), max_size=20)


@given(moves, st.data())
def test_active_blocks_are_the_union_of_what_is_in_flight(moves, data):
    active, in_flight = ActiveBlocks(), {}
    for number, (replica, blocks) in enumerate(moves):
        chain = tuple(prefixes(blocks))
        active.add(str(number), replica, np.array(chain, np.uint64))
        in_flight[str(number)] = replica, set(chain)
        if data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(in_flight)))
            active.remove(gone)
            del in_flight[gone]
    asked = prefixes(data.draw(requests))
    for replica in "ab":
        held = set().union(*(blocks for name, blocks in in_flight.values() if name == replica))
        assert active.count(replica) == len(held)
        assert active.count_with(replica, np.array(asked, np.uint64)) == len(held | set(asked))


def prefixes(blocks):
    """A number for each prefix, as a chain of hashes has."""
    return [int("".join(map(str, blocks[: end + 1])), 3) + 3 ** (end + 10) for end in range(len(blocks))]


busy = st.tuples(*[st.tuples(st.integers(0, 10), st.integers(0, 4), st.integers(0, 640))] * 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(busy)
def test_scores_order_as_dynamos_formulas_do(scene, busy):
    scene = type(scene)()
    scene.gpu = [cached * BLOCK for cached, _, _ in busy]
    scene.load.started[:] = [count for _, count, _ in busy]
    scene.load.prefill_tokens[:] = [tokens for _, _, tokens in busy]
    request = asking("r", *range(10))
    prefill = [max(tokens / BLOCK + 10 - cached, 0) for cached, _, tokens in busy]
    assert_ordered(score(DynamoCost(), scene, request), [blocks + 10 for blocks in prefill])
    lmetric = [max(160 - cached * BLOCK, 1) * (count + 1) for cached, count, _ in busy]
    assert_ordered(score(DynamoLMetric(hotspot_detection=False), scene, request), lmetric)


def assert_ordered(scores, costs):
    assert ((scores >= 0) & (scores <= 1)).all()
    for one in range(3):
        for two in range(3):
            assert (scores[one] > scores[two]) == (costs[one] < costs[two])


class TestLMetric:
    """The examples are those of Dynamo's own tests."""

    def test_the_product_trades_cache_hits_against_requests_in_flight(self, scene):
        scorer = DynamoLMetric(hotspot_detection=False)
        scene.gpu = [0, 128, 0]
        scene.load.started[:] = [0, 3, 9]
        request = asking("r", *range(10))
        assert scorer.cost_tokens(request, scene.candidates(), scene.view()).tolist() == [160, 32 * 4, 1600]
        assert score(scorer, scene, request).argmax() == 1

    def test_replicas_that_hold_all_are_told_apart_by_their_requests(self, scene):
        scene.gpu = [160, 160, 0]
        scene.load.started[:] = [3, 1, 0]
        assert score(DynamoLMetric(hotspot_detection=False), scene, asking("r", *range(10))).tolist() == [0.5, 1, 0]

    def test_a_hot_prefix_leaves_its_holder_after_a_streak(self, scene):
        scorer = DynamoLMetric(class_prefix_blocks=2, window_requests=4)
        scene.gpu = [160, 0, 0]
        scene.load.started[:] = [2, 1, 1]
        assert score(scorer, scene, asking("r", *range(10))).tolist() == [1, 0, 0]
        assert score(scorer, scene, asking("s", *range(10))).tolist() == [0, 1, 1]

    def test_a_prefix_that_enough_replicas_hold_is_not_hot(self, scene):
        scorer = DynamoLMetric(class_prefix_blocks=2, window_requests=4)
        scene.gpu = [160, 160, 0]
        for _ in range(6):
            assert score(scorer, scene, asking("r", *range(10))).tolist() == [1, 1, 0]
            score(scorer, scene, asking("s", *range(20, 30)))

    def test_short_prompts_have_no_class(self, scene):
        scorer = DynamoLMetric(class_prefix_blocks=4)
        scene.gpu = [48, 0, 0]
        for _ in range(10):
            assert score(scorer, scene, asking("r", 1, 2, 3)).argmax() == 0

    def test_the_window_forgets(self, scene):
        scorer = DynamoLMetric(class_prefix_blocks=1, window_requests=3)
        asked = [1, 2, 2, 3, 1, 1]
        for number, block in enumerate(asked):
            score(scorer, scene, asking("r", block))
            window = Counter(asked[max(0, number - 2) : number + 1])
            assert sorted(each.arrivals for each in scorer._classes.values()) == sorted(window.values())


@pytest.mark.parametrize("scorer", [DynamoCost, DynamoLMetric])
def test_a_request_without_a_prompt_goes_by_load(scene, scorer):
    scene.load.started[:] = [2, 1, 0]
    scene.load.prefill_tokens[:] = [32, 16, 0]
    assert scorer().score(Request("r", "m"), scene.candidates(), scene.view()).tolist() == [0, 0.5, 1]
