"""AIBrix's prefix-cache and production-stack's prefixaware, against their sources told again in plain Python."""

from statistics import stdev

from hypothesis import given
from hypothesis import strategies as st
from peers_b_world import TEXTS, PeerWorld, least, longest_match

from scorers.peers.aibrix_prefix_cache import AibrixPrefixCache
from scorers.peers.production_stack_prefixaware import ProductionStackPrefixaware

REPLICAS = 4
COUNTS = st.lists(st.integers(0, 20), min_size=REPLICAS, max_size=REPLICAS)
REQUESTS = st.lists(st.tuples(TEXTS, COUNTS, st.integers(0, 3)), max_size=12)


def make_world(scorer):
    return PeerWorld(REPLICAS, chunk_tokens=32), scorer


def test_aibrix_takes_the_best_match_and_of_equals_the_least_busy():
    world, scorer = make_world(AibrixPrefixCache())
    for text, position in (("aa", 0), ("aab", 1), ("aab", 2)):
        world.send(scorer, text, position)
    world.set_loads([1, 3, 2, 0])
    assert world.best(scorer, "aabb") == {2}
    assert world.best(scorer, "bbbb") == {3}


def test_aibrix_passes_over_a_match_above_one_deviation_of_the_mean():
    world, scorer = make_world(AibrixPrefixCache())
    for text, position in (("aa", 0), ("ab", 1), ("cc", 0)):
        world.send(scorer, text, position)
    # Mean 2.5, deviation 3.1: 7 are too many.
    world.set_loads([7, 2, 1, 0])
    assert world.best(scorer, "aaaa") == {1}
    assert world.best(scorer, "cccc") == {3}
    # Mean 2.75, deviation 1.5: 4 are not.
    world.set_loads([4, 2, 4, 1])
    assert world.best(scorer, "aaaa") == {0}


def test_aibrix_matches_only_the_least_busy_when_the_load_is_severely_skewed():
    world, scorer = make_world(AibrixPrefixCache())
    world.send(scorer, "aaaa", 1)
    world.set_loads([20, 5, 0, 0])
    assert world.best(scorer, "aaaa") == {2, 3}
    world.set_loads([7, 1, 0, 0])
    assert world.best(scorer, "aaaa") == {1}


def aibrix(text, counts, sent):
    """``routeOriginal`` of AIBrix's prefix_cache.go."""
    pods = list(range(REPLICAS))
    mean = sum(counts) / REPLICAS
    skewed = max(counts) > 2.0 * (mean + 1) and max(counts) - min(counts) >= 8
    ready = [pod for pod in pods if counts[pod] == min(counts)] if skewed else pods
    percents = {
        pod: longest_match(text, sent[pod]) * 100 // len(text) for pod in ready if longest_match(text, sent[pod])
    }
    ranks = sorted((-percents[pod], counts[pod]) for pod in percents)
    for percent, count in ranks:
        if count <= mean + stdev(counts):
            return {pod for pod in percents if (-percents[pod], counts[pod]) == (percent, count)}
    return least(pods, counts)


@given(REQUESTS)
def test_every_decision_is_that_of_aibrix(requests):
    world, scorer = make_world(AibrixPrefixCache())
    sent = [[] for _ in range(REPLICAS)]
    for text, counts, draw in requests:
        world.set_loads(counts)
        expected = aibrix(text, counts, sent)
        assert world.best(scorer, text) == expected
        chosen = sorted(expected)[draw % len(expected)]
        world.send(scorer, text, chosen)
        sent[chosen].append(text)


def test_production_stack_scores_the_share_of_the_prompt_that_was_sent_there():
    world, scorer = make_world(ProductionStackPrefixaware())
    world.send(scorer, "aab", 1)
    world.send(scorer, "a", 2)
    world.set_loads([0, 99, 0, 0])
    assert world.scores(scorer, "aabb") == [0.0, 0.75, 0.25, 0.0]
    assert world.scores(scorer, "b") == [0.0, 0.0, 0.0, 0.0]


def production_stack(text, sent):
    """``HashTrie.longest_prefix_match`` of production-stack's hashtrie.py."""
    selected = set(range(REPLICAS))
    for length in range(1, len(text) + 1):
        holders = {pod for pod in selected if any(other.startswith(text[:length]) for other in sent[pod])}
        if not holders:
            break
        selected = holders
    return selected


@given(REQUESTS)
def test_every_decision_is_that_of_production_stack(requests):
    world, scorer = make_world(ProductionStackPrefixaware())
    sent = [[] for _ in range(REPLICAS)]
    for text, counts, draw in requests:
        world.set_loads(counts)
        expected = production_stack(text, sent)
        assert world.best(scorer, text) == expected
        chosen = sorted(expected)[draw % len(expected)]
        world.send(scorer, text, chosen)
        sent[chosen].append(text)
