"""KV events of one replica on their way to one router.

They are numbered and arrive in order. One that is lost is missed when the next arrives: then it is replayed, while
what follows is held; or, without a replay socket, the router forgets the replica's blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from router.core.index.batch import KvBatch
from sim.cluster.config import Link
from sim.cluster.timeline import Timeline


class KvFeed:
    """Delivers one replica's batches to one router."""

    def __init__(
        self,
        link: Link,
        replay_s: float | None,
        timeline: Timeline,
        random: Random,
        deliver: Callable[[KvBatch], None],
        degrade: Callable[[], None],
    ) -> None:
        """``degrade`` is called when batches are lost for good."""
        self.lost = 0
        self._link = link
        self._replay_s = replay_s
        self._timeline = timeline
        self._random = random
        self._deliver = deliver
        self._degrade = degrade
        self._missing: list[KvBatch] = []
        self._last_due_s = 0.0

    def send(self, batch: KvBatch) -> None:
        link, random = self._link, self._random
        if random.random() < link.loss:
            self.lost += 1
            self._missing.append(batch)
            return
        due_s = self._timeline.now + link.delay_s + link.jitter_s * random.random()
        missing, self._missing = self._missing, []
        if missing and self._replay_s is not None:
            due_s += self._replay_s
            batch = KvBatch.join([*missing, batch])
        self._last_due_s = due_s = max(due_s, self._last_due_s)
        if missing and self._replay_s is None:
            self._timeline.at(due_s, self._degrade)
        self._timeline.at(due_s, self._deliver, batch)
