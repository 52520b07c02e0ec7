"""SMG's cache_aware, against its source told again in plain Python."""

from hypothesis import given
from hypothesis import strategies as st
from peers_b_world import TEXTS, PeerWorld, least, longest_match

from scorers.peers.smg_cache_aware import SmgCacheAware

REPLICAS = 4


def make_world():
    return PeerWorld(REPLICAS, chunk_tokens=16), SmgCacheAware(poll_interval_s=1.0)


def test_a_prompt_goes_to_the_holders_of_more_than_three_tenths_of_it():
    world, scorer = make_world()
    assert world.best(scorer, "aaab") == {0, 1, 2, 3}
    world.send(scorer, "aaab", 2)
    assert world.best(scorer, "aaac") == {2}
    assert world.best(scorer, "abbb") == {0, 1, 3}


def test_of_several_holders_the_one_with_the_least_expected_wait_is_chosen():
    world, scorer = make_world()
    for position in (1, 2):
        world.send(scorer, "aaaa", position)
    world.set_loads([0, 0, 0, 0], [0, 3, 2, 0])
    assert world.best(scorer, "aaaa") == {2}


def test_a_hot_holder_spills_to_the_shortest_wait_among_those_that_are_not():
    world, scorer = make_world()
    world.send(scorer, "aaaa", 0)
    # Mean 9: the margin is two standard deviations, 6. 15 in flight are above 13.5, but not above 15.
    world.set_loads([15, 7, 7, 7])
    assert world.best(scorer, "aaaa") == {0}
    world.set_loads([21, 5, 5, 5], [0, 0, 0, 0], [0.1, 0.4, 0.2, 0.3])
    world.now = 1.0
    assert world.best(scorer, "aaaa") == {2}


def test_a_threshold_below_the_swing_is_the_margin():
    world, scorer = PeerWorld(REPLICAS, chunk_tokens=16), SmgCacheAware(balance_abs_threshold=1.0)
    world.send(scorer, "aaaa", 0)
    world.set_loads([4, 2, 2, 0])
    assert 0 not in world.best(scorer, "aaaa")


def test_overloaded_workers_are_left_out_while_there_are_others():
    world, scorer = make_world()
    world.send(scorer, "aaaa", 0)
    world.set_loads([0, 0, 0, 0], [8, 0, 0, 7], [0.0, 0.8, 0.7, 0.0])
    assert world.best(scorer, "aaaa") == {2}
    world.now = 1.0
    world.set_loads([1, 2, 0, 3], [8, 8, 8, 8])
    assert world.best(scorer, "aaaa") == {2}


class Reference:
    """``select_worker_with_text`` and ``select_final_from_affinity`` of SMG's cache_aware.rs."""

    def __init__(self):
        self.sent = [[] for _ in range(REPLICAS)]
        self.since_poll = [0] * REPLICAS

    def select(self, text, in_flight, waiting, kv_usage):
        everyone = range(REPLICAS)
        eligible = [w for w in everyone if waiting[w] < 8 and kv_usage[w] < 0.8]
        if not eligible:
            return least(everyone, in_flight)
        mean = sum(in_flight[w] for w in eligible) / len(eligible)
        margin = min(64, max(4, 2 * mean**0.5))
        safe = [w for w in eligible if not (in_flight[w] > 1.5 * mean and in_flight[w] > mean + margin)]
        wait_s = [
            (waiting[w] + self.since_poll[w]) * 1024 / 2000.0 + 0.15 * kv_usage[w] / (1 - kv_usage[w]) for w in everyone
        ]
        matches = [longest_match(text, texts) for texts in self.sent]
        if max(matches) / len(text) > 0.3:
            holders = [w for w in safe if matches[w] == max(matches)]
            if holders:
                return least(holders, wait_s)
        return least(safe or eligible, wait_s)

    def dispatch(self, text, worker):
        self.sent[worker].append(text)
        self.since_poll[worker] += 1


def per_replica(values):
    return st.lists(values, min_size=REPLICAS, max_size=REPLICAS)


RUNNING = per_replica(st.sampled_from([0, 1, 3, 5, 9, 30, 100, 300]))
WAITING = per_replica(st.sampled_from([0, 0, 1, 4, 7, 8]))
KV_USAGE = per_replica(st.sampled_from([0.0, 0.25, 0.5, 0.875]))


@given(st.lists(st.tuples(TEXTS, RUNNING, st.booleans(), WAITING, KV_USAGE, st.integers(0, 3)), max_size=12))
def test_every_decision_is_that_of_the_source(requests):
    world, scorer, reference = *make_world(), Reference()
    waiting, kv_usage = [0] * REPLICAS, [0.0] * REPLICAS
    for text, running, polled, new_waiting, new_kv_usage, draw in requests:
        if polled:
            world.now += 1.0
            waiting, kv_usage = new_waiting, new_kv_usage
            reference.since_poll = [0] * REPLICAS
        world.set_loads(running, waiting, kv_usage)
        expected = reference.select(text, [sum(each) for each in zip(running, waiting, strict=True)], waiting, kv_usage)
        assert world.best(scorer, text) == expected
        chosen = sorted(expected)[draw % len(expected)]
        world.send(scorer, text, chosen)
        reference.dispatch(text, chosen)
