"""What the peers' scorers share: ranks, and what they remember of the requests that left."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from peers_b_world import TEXTS, PeerWorld, longest_match, spec

from router.core.view import View
from scorers.peers.first_holders import FirstHolders
from scorers.peers.lexicographic import lexicographic
from scorers.peers.sent_prefixes import SentPrefixes
from scorers.peers.smg_load_monitor import LoadMonitor

KEYS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8)


def matched(sent, world, text):
    return sent.match(world.request(text), world.candidates()).tolist()


def add(sent, world, text, position):
    sent.add(world.request(text), world.candidates(), position)


def test_ranks_go_by_the_first_key_then_the_next():
    first, second = np.array([1.0, 0.0, 0.0, 1.0]), np.array([5.0, 9.0, 7.0, 5.0])
    assert lexicographic(first, second).tolist() == [0.0, 0.5, 1.0, 0.0]
    assert lexicographic(np.array([True, True])).tolist() == [1.0, 1.0]


@given(KEYS)
def test_ranks_order_candidates_as_tuples_do(rows):
    scores = lexicographic(*np.array(rows, float).T)
    for row, score in zip(rows, scores, strict=True):
        for other, other_score in zip(rows, scores, strict=True):
            assert (row < other) == (score > other_score)


@given(st.lists(st.tuples(TEXTS, st.integers(0, 2)), max_size=12), TEXTS)
def test_what_was_sent_is_matched_from_its_start(sendings, text):
    world, sent = PeerWorld(3, chunk_tokens=4), SentPrefixes(4, max_chunks=1000)
    for other, position in sendings:
        add(sent, world, other, position)
    expected = [longest_match(text, [other for other, at in sendings if at == position]) for position in range(3)]
    assert matched(sent, world, text) == expected


def test_each_replica_has_its_share_of_the_memory_and_the_oldest_is_forgotten():
    world, sent = PeerWorld(2, chunk_tokens=4), SentPrefixes(4, max_chunks=6)
    for text in ("aa", "bb", "cc"):
        add(sent, world, text, 0)
    assert matched(sent, world, "aa") == [0, 0]
    assert matched(sent, world, "bb") == [1, 0]
    assert matched(sent, world, "cc") == [2, 0]


def test_a_replica_that_takes_the_slot_of_another_was_sent_nothing():
    world, sent = PeerWorld(2, chunk_tokens=4), SentPrefixes(4, max_chunks=100)
    add(sent, world, "ab", 0)
    world.fleet.remove("0")
    assert world.fleet.put(spec("new")) == 0
    assert matched(sent, world, "ab") == [0, 0]


def test_a_request_without_a_prompt_matches_nowhere():
    world, sent = PeerWorld(2, chunk_tokens=4), SentPrefixes(4, max_chunks=100)
    add(sent, world, "", 0)
    assert matched(sent, world, "") == [0, 0]


def test_the_first_holder_stays_until_it_leaves():
    first = FirstHolders(max_chunks=100)
    first.add([1, 2, 3], "x", ("x", "y"))
    first.add([1, 2, 4], "y", ("x", "y"))
    assert first.find([1, 2, 9]) == (2, "x")
    assert first.find([1, 2, 4, 5]) == (3, "y")
    assert first.find([9]) == (0, "")
    first.add([1, 2], "y", ("y",))
    assert first.find([1, 2]) == (2, "y")


def test_first_holders_forget_the_least_recent_prompt_from_its_end():
    first = FirstHolders(max_chunks=3)
    first.add([1, 2], "x", ("x",))
    first.add([3, 4], "x", ("x",))
    assert first.find([1, 2]) == (1, "x")
    assert first.find([3, 4]) == (2, "x")


def test_the_load_monitor_knows_the_last_poll_and_what_was_sent_since():
    world, monitor = PeerWorld(2, chunk_tokens=4), LoadMonitor(poll_interval_s=10.0)

    def poll():
        monitor.poll(world.candidates(), View(world.load, world.fleet.slots, world.now))
        return monitor.expected_wait_s(world.candidates()).tolist()

    world.set_loads([0, 0], [2, 0], [0.0, 0.5])
    assert poll() == [2 * 1024 / 2000, 0.15]
    monitor.sent(1)
    world.now, world.load.queued[0] = 9.0, 7
    assert poll() == [2 * 1024 / 2000, 1024 / 2000 + 0.15]
    world.now = 10.0
    assert poll() == [7 * 1024 / 2000, 0.15]
