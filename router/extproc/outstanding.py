"""Requests that were sent to a replica and whose end somebody else will report.

The access log does, by request id. Where there is none, or it was lost, what a replica says of itself shows how many of
the requests sent there are over: no end that nobody reports may weigh on a replica for ever.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from router.core.types import Ticket


@dataclass(slots=True, eq=False)
class Sent:
    """A request on its way."""

    id: str
    ticket: Ticket
    replica: str
    endpoint: str
    at_s: float
    priority: int | None
    """What the engine was told."""


class Outstanding:
    """By request id, and by replica in the order in which they went."""

    def __init__(self) -> None:
        self._by_id: dict[str, list[Sent]] = {}
        self._by_replica: defaultdict[str, dict[Sent, None]] = defaultdict(dict)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, sent: Sent) -> None:
        self._by_id.setdefault(sent.id, []).append(sent)
        self._by_replica[sent.replica][sent] = None
        self._count += 1

    def take(self, request_id: str, endpoint: str) -> Sent | None:
        """The request of this id that is over. Clients may use an id twice: then the one that went to ``endpoint``."""
        same = self._by_id.get(request_id)
        if not same:
            return None
        sent = next((each for each in same if each.endpoint == endpoint), same[0])
        self.remove(sent)
        return sent

    def remove(self, sent: Sent) -> bool:
        """False: it was not there any more."""
        at_replica = self._by_replica.get(sent.replica, {})
        if sent not in at_replica:
            return False
        del at_replica[sent]
        if not at_replica:
            del self._by_replica[sent.replica]
        same = self._by_id[sent.id]
        same.remove(sent)
        if not same:
            del self._by_id[sent.id]
        self._count -= 1
        return True

    def surplus(self, replica: str, busy: int, before_s: float) -> list[Sent]:
        """The oldest of the requests sent until ``before_s``, as many as ``replica`` has fewer than that."""
        at_replica = self._by_replica.get(replica)
        if at_replica is None or len(at_replica) <= busy:
            return []
        old = [sent for sent in at_replica if sent.at_s <= before_s]
        return old[: max(len(old) - busy, 0)]

    def older(self, before_s: float) -> list[Sent]:
        """All that were sent until ``before_s``."""
        return [sent for at_replica in self._by_replica.values() for sent in _until(at_replica, before_s)]


def _until(sent: dict[Sent, None], before_s: float) -> list[Sent]:
    found = []
    for each in sent:
        if each.at_s > before_s:
            break
        found.append(each)
    return found
