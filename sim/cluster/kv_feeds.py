"""KV events on their way from every replica to every router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from router.core.index.hashing import chain_seed
from sim.cluster.config import ClusterConfig, Link
from sim.cluster.gateway import Gateway
from sim.cluster.kv_batches import Content, make_batch
from sim.cluster.kv_feed import KvFeed
from sim.cluster.timeline import Timeline
from sim.engine import KvEvent, Request


class KvFeeds:
    """None, where replicas report no KV events."""

    def __init__(self, config: ClusterConfig, timeline: Timeline, random: Random, gateways: Sequence[Gateway]) -> None:
        self._block_size = config.engine.block_size_tokens
        self._seed = chain_seed(config.model)
        self._feeds: list[list[KvFeed]] = []
        if config.kv_events is not None:
            connect = partial(_connect, config.kv_events, config.replay_s, timeline, random)
            self._feeds = [[connect(gateway, str(number)) for gateway in gateways] for number in range(config.replicas)]

    @property
    def lost(self) -> int:
        """Batches so far."""
        return sum(feed.lost for feeds in self._feeds for feed in feeds)

    def send(self, replica: int, events: Sequence[KvEvent], contents: Mapping[Request, Content]) -> None:
        if self._feeds:
            batch = make_batch(events, contents, self._block_size, self._seed)
            for feed in self._feeds[replica]:
                feed.send(batch)


def _connect(
    link: Link, replay_s: float | None, timeline: Timeline, random: Random, gateway: Gateway, replica: str
) -> KvFeed:
    return KvFeed(
        link,
        replay_s,
        timeline,
        Random(random.random()),
        partial(gateway.on_kv_events, replica),
        partial(gateway.degrade, replica),
    )
