"""Tells the router how requests ended that it has sent through Envoy.

Three may know: the stream itself where answers come by, Envoy's access log, and the replica, whose reports show when
it has fewer requests than were sent to it. Each end is told once.
"""

from __future__ import annotations

from collections.abc import Callable

from router.core.types import LoadReport, Outcome
from router.dispatcher import Dispatcher
from router.extproc.access_log import Entry
from router.extproc.outstanding import Outstanding, Sent
from router.extproc.stats import ExtProcStats
from router.proxy.priorities import Priorities

GRACE_S = 5.0
"""A request may be on its way to a replica for so long before the replica counts it."""
GRACE_WITH_LOG_S = 60.0
"""The same where an access log is received: it will tell, unless an entry is lost."""


class Ends:
    """``note`` hears of replicas that could not be reached, as the dispatcher's."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        stats: ExtProcStats,
        priorities: Priorities,
        note: Callable[[str, Outcome], None],
        clock: Callable[[], float],
        timeout_s: float,
    ) -> None:
        """``timeout_s``: what is older was given up by the router, and is forgotten here."""
        self.outstanding = Outstanding()
        self._dispatcher = dispatcher
        self._stats = stats
        self._priorities = priorities
        self._takes_priorities: set[str] = set()
        self._note = note
        self._clock = clock
        self._timeout_s = timeout_s

    def withdrawn(self, sent: Sent | None) -> None:
        """The request was decided, but nobody is there to be told."""
        if sent is not None:
            self._dispatcher.response_ended(sent.ticket, Outcome.CLIENT_GONE)

    def started(self, sent: Sent) -> None:
        """The first piece of the answer's body came by."""
        self._dispatcher.response_started(sent.ticket)

    def ended(self, sent: Sent, outcome: Outcome) -> None:
        """The stream knows the end."""
        if self.outstanding.remove(sent):
            self._dispatcher.response_ended(sent.ticket, outcome)

    def logged(self, entry: Entry) -> None:
        """The access log tells an end."""
        stats = self._stats
        stats.statuses[entry.status] += 1
        stats.request_bytes += entry.request_bytes
        stats.response_bytes += entry.response_bytes
        sent = self.outstanding.take(entry.request_id, entry.endpoint)
        if sent is None:
            stats.unmatched += 1
            return
        stats.logged[entry.outcome.value] += 1
        stats.duration_s.observe(entry.duration_s)
        if entry.head_s:
            stats.head_s.observe(entry.head_s)
        self._dispatcher.response_ended(sent.ticket, entry.outcome)
        if entry.endpoint:
            self.served(sent, entry.endpoint)
        self._learn_priority(sent, entry.status)

    def served(self, sent: Sent, endpoint: str) -> None:
        """The gateway says whom it asked: if that is not whom it was told first, that one could not be reached."""
        if endpoint != sent.endpoint:
            self._stats.served_elsewhere += 1
            self._note(sent.replica, Outcome.FAILED)

    def reported(self, replica: str, report: LoadReport) -> None:
        """A replica says how many requests it has."""
        grace_s = GRACE_WITH_LOG_S if self._stats.logs_open else GRACE_S
        busy = report.running + report.waiting
        for sent in self.outstanding.surplus(replica, busy, self._clock() - grace_s):
            self._stats.presumed_over += 1
            self.ended(sent, Outcome.OK)

    def expire(self) -> None:
        for sent in self.outstanding.older(self._clock() - self._timeout_s):
            self.outstanding.remove(sent)

    def forget(self, replica: str) -> None:
        """The replica may come back as another process."""
        self._takes_priorities.discard(replica)

    def _learn_priority(self, sent: Sent, status: int) -> None:
        """An engine without priorities answers 400 to each. One that has taken a priority once takes them all."""
        if not sent.priority:
            return
        if 200 <= status < 300:
            self._takes_priorities.add(sent.replica)
        elif status == 400 and sent.replica not in self._takes_priorities:
            self._stats.priorities_refused += 1
            self._priorities.refused_by(sent.replica)
