"""vllm-project/router's cache_aware, against its source told again in plain Python."""

from hypothesis import given
from hypothesis import strategies as st
from peers_b_world import TEXTS, PeerWorld, common_prefix, least

from scorers.peers.vllm_router_cache_aware import VllmRouterCacheAware

REPLICAS = 3


def make_world(**parameters):
    return PeerWorld(REPLICAS, chunk_tokens=32), VllmRouterCacheAware(**parameters)


def test_a_prefix_belongs_to_the_first_replica_that_was_sent_it():
    world, scorer = make_world()
    world.send(scorer, "aaaa", 1)
    world.send(scorer, "aaaab", 2)
    world.set_loads([0, 50, 0])
    assert world.best(scorer, "aaaac") == {1}
    assert world.best(scorer, "aaaabb") == {2}
    assert world.best(scorer, "abbbb") == {0, 2}


def test_out_of_balance_the_least_loaded_replica_is_chosen_whatever_it_holds():
    world, scorer = make_world()
    world.send(scorer, "aaaa", 1, session="s")
    world.set_loads([3, 66, 2])
    assert world.best(scorer, "aaaa", session="s") == {1}
    world.set_loads([3, 67, 2])
    assert world.best(scorer, "aaaa", session="s") == {2}
    world.set_loads([200, 267, 200])
    assert world.best(scorer, "aaaa") == {1}


def test_a_session_stays_until_it_is_old():
    world, scorer = make_world(session_ttl_s=10.0)
    world.send(scorer, "a", 2, session="s")
    world.set_loads([0, 0, 5])
    assert world.best(scorer, "bbbb", session="s") == {2}
    assert world.best(scorer, "bbbb", session="other") == {0, 1}
    world.now = 11.0
    assert world.best(scorer, "bbbb", session="s") == {0, 1}


def test_the_number_of_sessions_is_bounded():
    world, scorer = make_world(max_sessions=1)
    world.send(scorer, "a", 2, session="one")
    world.send(scorer, "b", 2, session="two")
    world.set_loads([0, 0, 5])
    assert world.best(scorer, "cccc", session="one") == {0, 1}
    assert world.best(scorer, "cccc", session="two") == {2}


def test_a_replica_that_left_owns_nothing():
    world, scorer = make_world()
    world.send(scorer, "aaaa", 2)
    world.fleet.remove("2")
    assert world.best(scorer, "aaaa") == {0, 1}
    world.send(scorer, "aaaa", 1)
    assert world.best(scorer, "aaaa") == {1}


class Reference:
    """``select_worker_cache_aware_with_decision`` of vllm-project/router's cache_aware.rs."""

    def __init__(self):
        self.sent, self.sessions = [], {}

    def select(self, text, session, loads):
        if max(loads) - min(loads) > 64 and max(loads) > 1.5 * min(loads):
            return least(range(REPLICAS), loads)
        if session in self.sessions:
            return {self.sessions[session]}
        depth = max((common_prefix(text, other) for other, _ in self.sent), default=0)
        if depth / len(text) > 0.3:
            return {next(worker for other, worker in self.sent if common_prefix(text, other) == depth)}
        return least(range(REPLICAS), loads)

    def dispatch(self, text, session, worker):
        self.sent.append((text, worker))
        if session:
            self.sessions[session] = worker


LOADS = st.lists(st.sampled_from([0, 1, 2, 64, 65, 66, 130, 200]), min_size=REPLICAS, max_size=REPLICAS)


@given(st.lists(st.tuples(TEXTS, st.sampled_from(["", "", "s", "t"]), LOADS, st.integers(0, 2)), max_size=12))
def test_every_decision_is_that_of_the_source(requests):
    world, scorer, reference = *make_world(), Reference()
    for text, session, loads, draw in requests:
        world.set_loads(loads)
        expected = reference.select(text, session, loads)
        assert world.best(scorer, text, session) == expected
        chosen = sorted(expected)[draw % len(expected)]
        world.send(scorer, text, chosen, session)
        reference.dispatch(text, session, chosen)
