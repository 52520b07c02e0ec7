"""What engines are told of a request's priority, and which of them do not want to be told."""

from __future__ import annotations

from router.core.types import Decision, Request


class Priorities:
    """Remembers replicas that answered a priority with an error, until they may have been restarted."""

    def __init__(self) -> None:
        self._refused_by: set[str] = set()

    def of(self, request: Request, decision: Decision) -> int | None:
        """What ``X-Vllm-Priority`` says; None: there is none.

        The header goes before the body's ``priority``, so 0, which every engine takes, silences a stranger's.
        """
        if decision.priority is not None and decision.replica.name not in self._refused_by:
            return decision.priority
        return 0 if request.says_priority else None

    def refused_by(self, replica: str) -> None:
        self._refused_by.add(replica)

    def forget(self, replica: str) -> None:
        """The replica may come back as another process."""
        self._refused_by.discard(replica)
