"""Blocks of finished prefills, kept until another replica has fetched them, or for so long as nobody comes.

As in vLLM with NixlConnector: the request is over, but its blocks stay held. Who fetched them says so, and they become
free; if nobody does, their lease ends. Who still waits for room to fetch them says that too, and they are kept on.
"""

from __future__ import annotations

from sim.engine.request import Request

RENEWED_SHARE = 2 / 3
"""Of a lease, that it has left at least when it has been renewed."""


class Leases:
    """Kept requests by id."""

    __slots__ = ("_kept", "expired", "lease_s")

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self.expired = 0
        """Leases that ended before anybody fetched the blocks."""
        self._kept: dict[str, tuple[float, Request]] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, request: Request, since_s: float) -> None:
        self._kept[request.id] = since_s + self.lease_s, request

    def take(self, request_id: str) -> Request | None:
        """The request is kept no longer. None when it is not (any more)."""
        _, request = self._kept.pop(request_id, (0.0, None))
        return request

    def renew(self, request_id: str, now: float) -> None:
        """Whoever is to fetch the blocks is still there. Too late is no error."""
        kept = self._kept.get(request_id)
        if kept is not None:
            end_s, request = kept
            self._kept[request_id] = max(end_s, now + RENEWED_SHARE * self.lease_s), request

    def take_ended(self, now: float) -> list[Request]:
        """Those whose lease has ended."""
        ended = [request for end_s, request in self._kept.values() if end_s <= now]
        for request in ended:
            del self._kept[request.id]
        self.expired += len(ended)
        return ended
