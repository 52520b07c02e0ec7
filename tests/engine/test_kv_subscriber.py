"""KV events over real ZMQ sockets, from a publisher like vLLM's into the router's index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from vllm_stand_in import CLEARED, Publisher, WatchedRouter, new_context, stored

from router.core.types import IndexState, ReplicaSpec
from router.engine.context import EngineContext
from router.engine.kv_events.endpoints import EventSource
from router.engine.kv_events.sequence import SequenceSettings
from router.engine.kv_events.sockets import MAX_MESSAGES
from router.engine.kv_events.subscriber import KvSubscriber

NAME = "r0"
QUICK = SequenceSettings(replay_timeout_s=0.05, retry_s=0.05)


class Rig:
    """A router that knows one replica, and what it takes to subscribe to it."""

    def __init__(self, context: EngineContext, router: WatchedRouter) -> None:
        self.context, self.router = context, router
        self.heard = 0
        self.restarts = 0
        self.publishers: list[Publisher] = []
        self.subscribers: list[KvSubscriber] = []

    def publisher(self, **settings: object) -> Publisher:
        self.publishers.append(Publisher(**settings))  # type: ignore[arg-type]
        return self.publishers[-1]

    def subscribe(self, publisher: Publisher, settings: SequenceSettings | None = None) -> KvSubscriber:
        source = EventSource(publisher.endpoint, publisher.replay_endpoint)
        subscriber = KvSubscriber(NAME, "m", source, self.context, self.count_heard, self.count_restart, settings)
        self.subscribers.append(subscriber)
        subscriber.start()
        return subscriber

    async def connected(self, publisher: Publisher) -> None:
        """Publishes until something arrives: a PUB socket drops what it sends to a subscriber it does not know yet."""
        arrived = len(self.router.history)

        def publish_until_heard() -> bool:
            heard = any(fact[0] == "events" for fact in self.router.history[arrived:])
            if not heard:
                publisher.publish(stored(1))
            return heard

        async with asyncio.timeout(10):
            while not publish_until_heard():
                await asyncio.sleep(0.01)

    def count_heard(self) -> None:
        self.heard += 1

    def count_restart(self) -> None:
        self.restarts += 1

    def is_(self, state: IndexState, blocks: int) -> Callable[[], bool]:
        return lambda: self.router.state_of(NAME) is state and self.router.held(NAME) == blocks

    async def becomes(self, state: IndexState, blocks: int) -> None:
        await self.router.until(self.is_(state, blocks))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    router = WatchedRouter()
    async with aiohttp.ClientSession() as session:
        context = new_context(router, session)
        router.on_replica(ReplicaSpec(NAME, "http://r0", models=("m",), block_size_tokens=4), 0.0)
        rig = Rig(context, router)
        yield rig
        for subscriber in rig.subscribers:
            subscriber.close()
        for publisher in rig.publishers:
            publisher.close()
        await asyncio.wait_for(asyncio.to_thread(context.zmq.term), 10)


async def test_a_late_start_replays_everything(rig: Rig) -> None:
    publisher = rig.publisher()
    publisher.publish(stored(1, 2))
    publisher.publish(stored(3, parent=2))
    rig.subscribe(publisher)
    await rig.becomes(IndexState.SYNCED, 3)


async def test_live_events_follow(rig: Rig) -> None:
    publisher = rig.publisher()
    subscriber = rig.subscribe(publisher)
    await rig.connected(publisher)
    publisher.publish(stored(5, 6))
    publisher.publish({"type": "BlockRemoved", "block_hashes": [6], "medium": "GPU"})
    publisher.publish(stored(7, 8, parent=5))
    await rig.router.until(lambda: rig.router.held(NAME) == 4)
    assert subscriber.connected
    assert rig.heard == 1
    assert rig.router.state_of(NAME) is IndexState.SYNCED


async def test_a_gap_is_filled_by_replay(rig: Rig) -> None:
    publisher = rig.publisher()
    subscriber = rig.subscribe(publisher)
    await rig.connected(publisher)
    publisher.publish(stored(2), lost=True)
    publisher.publish(stored(3, parent=2))
    await rig.becomes(IndexState.SYNCED, 3)
    assert subscriber.sequence.counts["gaps"] == 1


async def test_a_gap_beyond_the_buffer_degrades(rig: Rig) -> None:
    publisher = rig.publisher(buffer_messages=2)
    rig.subscribe(publisher)
    await rig.connected(publisher)
    for block in (2, 3, 4):
        publisher.publish(stored(block), lost=True)
    publisher.publish(stored(5))
    await rig.becomes(IndexState.DEGRADED, 2)


async def test_a_gap_without_replay_socket_degrades_and_goes_on(rig: Rig) -> None:
    publisher = rig.publisher(replays=False)
    rig.subscribe(publisher)
    await rig.connected(publisher)
    publisher.publish(stored(2), lost=True)
    publisher.publish(stored(3))
    await rig.becomes(IndexState.DEGRADED, 1)
    publisher.publish(stored(4))
    await rig.becomes(IndexState.DEGRADED, 2)


async def test_a_restart_forgets_and_replays(rig: Rig) -> None:
    publisher = rig.publisher()
    for block in (1, 2, 3):
        publisher.publish(stored(block))
    rig.subscribe(publisher)
    await rig.becomes(IndexState.SYNCED, 3)
    publisher.restart()
    publisher.publish(stored(9))
    await rig.becomes(IndexState.SYNCED, 1)
    assert (rig.restarts, rig.heard) == (1, 1)


async def test_a_restart_that_has_published_as_much_is_noticed(rig: Rig) -> None:
    publisher = rig.publisher()
    publisher.publish(stored(1))
    rig.subscribe(publisher)
    await rig.becomes(IndexState.SYNCED, 1)
    publisher.restart()
    publisher.publish(stored(8, 9))
    publisher.publish(stored(10))
    await rig.becomes(IndexState.SYNCED, 3)
    assert rig.restarts == 1


async def test_a_silent_replay_socket_leaves_it_partial_and_is_asked_again(rig: Rig) -> None:
    publisher = rig.publisher()
    publisher.answers_replays = False
    publisher.publish(stored(1))
    subscriber = rig.subscribe(publisher, QUICK)
    await rig.connected(publisher)
    assert rig.router.state_of(NAME) is IndexState.PARTIAL
    publisher.answers_replays = True
    await rig.router.until(lambda: rig.router.state_of(NAME) is IndexState.SYNCED)
    assert subscriber.sequence.counts["replays_unanswered"] >= 1


async def test_replays_of_older_versions_carry_no_topic(rig: Rig) -> None:
    publisher = rig.publisher(topic_in_replay=False)
    publisher.publish(stored(1, 2))
    rig.subscribe(publisher)
    await rig.becomes(IndexState.SYNCED, 2)


async def test_an_emptied_cache_is_synced_again(rig: Rig) -> None:
    publisher = rig.publisher(replays=False)
    publisher.publish(stored(1), lost=True)
    rig.subscribe(publisher)
    await rig.connected(publisher)
    assert rig.router.state_of(NAME) is IndexState.PARTIAL
    publisher.publish(CLEARED, stored(5, 6))
    await rig.becomes(IndexState.SYNCED, 2)


async def test_more_messages_than_are_read_at_once(rig: Rig) -> None:
    publisher = rig.publisher(buffer_messages=100_000)
    count = 3 * MAX_MESSAGES
    for block in range(1, count):
        publisher.publish(stored(block, parent=block - 1 or None))
    rig.subscribe(publisher)
    await rig.becomes(IndexState.SYNCED, count - 1)
    for block in range(count, 2 * count):
        publisher.publish(stored(block, parent=block - 1))
    await rig.becomes(IndexState.SYNCED, 2 * count - 1)


@pytest.mark.parametrize(
    "frames",
    [[b"alone"], [b"kv@m", b"\0" * 8], [b"kv@m", b"\0" * 7, b"x"], [b"kv@m", b"\0" * 8, b"x", b"more"], [b""] * 9],
)
async def test_malformed_frames_cost_a_warning_and_nothing_else(rig: Rig, frames: list[bytes]) -> None:
    publisher = rig.publisher()
    rig.subscribe(publisher)
    await rig.connected(publisher)
    publisher.send(*frames)
    publisher.publish(stored(2))
    publisher.publish(stored(3))
    await rig.becomes(IndexState.SYNCED, 3)
    assert rig.context.troubles.counts["malformed_event_frames"] >= 1


async def test_a_poisoned_payload_costs_a_warning_and_nothing_else(rig: Rig) -> None:
    publisher = rig.publisher(replays=False)
    subscriber = rig.subscribe(publisher)
    await rig.connected(publisher)
    seq = publisher.skip()
    publisher.send(b"kv@m", seq.to_bytes(8, "big"), b"\xc1 not msgpack")
    publisher.publish(stored(2))
    await rig.router.until(lambda: rig.router.held(NAME) == 2)
    assert sum(subscriber.ignored.values()) == 1
    assert rig.context.troubles.counts["ignored_event"] == 1


async def test_a_publisher_that_cannot_be_reached_is_worth_a_warning(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.engine.kv_events.subscriber.UNHEARD_S", 0.01)
    publisher = rig.publisher()
    publisher.pause()
    rig.subscribe(publisher)
    while not rig.context.troubles.counts["events_unheard"]:
        await asyncio.sleep(0)
    assert rig.heard == 0
    publisher.restart()
    publisher.publish(stored(1))
    await rig.becomes(IndexState.SYNCED, 1)
    assert rig.heard == 1


async def test_closing_twice_and_while_a_replay_is_under_way(rig: Rig) -> None:
    publisher = rig.publisher()
    publisher.answers_replays = False
    subscriber = rig.subscribe(publisher)
    await rig.router.until(lambda: ("state", NAME, IndexState.PARTIAL) in rig.router.history)
    while not subscriber.sequence.counts["replays"]:
        await asyncio.sleep(0)
    subscriber.close()
    subscriber.close()
