"""KV events on their way from a replica to a router."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from router.core.index.batch import KvBatch
from sim.cluster.config import Link
from sim.cluster.kv_feed import KvFeed
from sim.cluster.timeline import Timeline


class World:
    """A feed, numbered batches sent at given times, and what came out of it."""

    def __init__(self, link: Link, replay_s: float | None, seed: int) -> None:
        self.timeline = Timeline()
        self.arrived: list[tuple[float, int | str]] = []
        self.feed = KvFeed(link, replay_s, self.timeline, Random(seed), self._deliver, self._degrade)

    def send_at(self, times_s: list[float]) -> None:
        for number, time_s in enumerate(sorted(times_s)):
            self.timeline.at(time_s, self.feed.send, KvBatch.removed([number]))
        self.timeline.run()

    @property
    def numbers(self) -> list[int | str]:
        return [what for _, what in self.arrived]

    def _deliver(self, batch: KvBatch) -> None:
        self.arrived += [(self.timeline.now, int(number)) for number in batch.engine_hashes]

    def _degrade(self) -> None:
        self.arrived.append((self.timeline.now, "degraded"))


links = st.builds(
    Link, st.sampled_from([0.0, 0.01]), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.3, 0.9, 1.0])
)
moments = st.lists(st.floats(0, 10), max_size=30)


@given(links, moments, st.integers(0, 9))
def test_with_replays_all_arrive_in_order_but_the_last_lost(link: Link, times_s: list[float], seed: int) -> None:
    world = World(link, 0.2, seed)
    world.send_at(times_s)
    assert world.numbers == list(range(len(world.numbers)))
    assert len(times_s) - world.feed.lost <= len(world.numbers) <= len(times_s)
    for arrived_s, number in world.arrived:
        assert arrived_s >= sorted(times_s)[int(number)] + link.delay_s


@given(links, moments, st.integers(0, 9))
def test_without_replays_every_gap_is_told_before_what_follows_it(link: Link, times_s: list[float], seed: int) -> None:
    world = World(link, None, seed)
    world.send_at(times_s)
    following = 0
    for position, what in enumerate(world.numbers):
        if what == "degraded":
            assert int(world.numbers[position + 1]) > following
        else:
            told = position > 0 and world.numbers[position - 1] == "degraded"
            assert told or what == following
            following = int(what) + 1
    delivered = sum(what != "degraded" for what in world.numbers)
    assert delivered == len(times_s) - world.feed.lost


def test_nothing_overtakes_a_replay() -> None:
    class LosesTheFirst(Random):
        draws = iter([0.0, *[0.9] * 10])

        def random(self) -> float:
            return next(self.draws)

    world = World(Link(delay_s=0.1, loss=0.5), 1.0, 0)
    world.feed._random = LosesTheFirst()
    world.send_at([0.0, 0.5, 0.6, 3.0])
    assert [(round(time_s, 6), number) for time_s, number in world.arrived] == [(1.6, 0), (1.6, 1), (1.6, 2), (3.1, 3)]
