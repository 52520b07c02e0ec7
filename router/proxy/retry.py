"""When a failed try may be repeated on another replica."""

from __future__ import annotations


class RetryBudget:
    """A token bucket filled by requests, not by time: each adds ``share``, each retry takes one.

    So retries are at most ``share`` of the traffic in the long run, however many replicas fail.
    """

    def __init__(self, share: float, burst: int) -> None:
        self._share = share
        self._burst = float(burst)
        self._tokens = float(burst)

    def deposit(self) -> None:
        """A request came in."""
        self._tokens = min(self._burst, self._tokens + self._share)

    def withdraw(self) -> bool:
        """Whether one retry is allowed; if so it is spent."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
