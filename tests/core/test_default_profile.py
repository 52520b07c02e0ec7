"""What the default profile promises: affinity, weighed against queued work."""

from collections import Counter

from house import House, prompt

from router.core.types import Outcome


def test_requests_with_nothing_to_share_spread_like_least_load():
    house = House(8)
    counts = Counter(house.route(prompt((f"request {number}", 512))) for number in range(80))
    assert set(counts.values()) == {10}


def test_a_prefix_that_all_requests_share_does_not_collapse_onto_one_replica():
    house = House(8)
    house.stored("r3", prompt(("system", 1024)))
    counts = Counter(house.route(prompt(("system", 1024), (f"q{number}", 1024))) for number in range(160))
    assert len(counts) == 8
    assert max(counts.values()) <= 2 * 160 / 8


def test_a_small_burst_of_siblings_stays_together():
    house = House(8, capacity_blocks=28_000)
    shared = ("context", 16_000)
    counts = Counter(house.route(prompt(shared, (f"branch {number}", 64))) for number in range(6))
    assert len(counts) == 1


def test_a_large_burst_of_siblings_spreads_when_load_says_so():
    house = House(4, capacity_blocks=4000)
    counts = Counter(house.route(prompt(("context", 8_000), (f"branch {number}", 800))) for number in range(64))
    assert len(counts) == 4
    assert max(counts.values()) < 40


def test_the_next_turn_of_a_conversation_returns_to_its_replica():
    house = House(4)
    names = []
    for turn in range(1, 6):
        content = prompt(*((f"turn {number}", 400) for number in range(turn)))
        ticket = house.ask(content)
        names.append(ticket.decision.replica.name)
        house.stored(names[-1], content)
        house.router.on_response_end(ticket, None, Outcome.OK, house.now)
        house.now += 30.0
    assert len(set(names)) == 1
