"""Whether a server may be sent requests: its own ``/health``, and how the requests sent to it went.

A failed request causes a check at once, so a server that is gone is known to be gone after one failure. Requests that
keep failing while ``/health`` says all is well open the circuit for a while that doubles each time: then requests are
let in on trial, the first that succeeds closes it, the first that fails opens it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import aiohttp

from router.core.types import Health, Outcome
from router.engine.http import FetchError, Limits, RefusedError, fetch


class Check(Enum):
    """What ``/health`` said."""

    OK = "ok"
    DOWN = "down"
    """Nobody listens, or the server says itself that its engine is dead."""
    LATE = "late"
    """No usable answer in time: busy, or hung."""


@dataclass(slots=True, frozen=True)
class HealthSettings:
    interval_s: float = 5.0
    recheck_s: float = 0.5
    """Between checks of a server that is not healthy."""
    timeout_s: float = 2.0
    late_checks: int = 3
    """This many late answers in a row make a server unhealthy."""
    failed_requests: int = 5
    """This many failed requests in a row do so too, whatever its checks say."""
    open_s: float = 1.0
    max_open_s: float = 30.0


class HealthTracker:
    """The state machine of one server."""

    def __init__(self, settings: HealthSettings | None = None) -> None:
        self.settings = settings or HealthSettings()
        self.health = Health.STARTING
        self.next_check_s = 0.0
        """When the next check is due; read it anew after each call."""
        self._checked_s = -math.inf
        self._late = 0
        self._failed = 0
        self._on_trial = False
        self._open_s = self.settings.open_s
        self._open_until_s = 0.0

    def checked(self, check: Check, now: float) -> None:
        """The answer of a check."""
        self._checked_s = now
        if check is Check.OK:
            self._late = 0
            if self.health is not Health.HEALTHY and now >= self._open_until_s:
                self.health = Health.HEALTHY
        else:
            self._late += 1
            if check is Check.DOWN or self._late >= self.settings.late_checks:
                self._leave_healthy()
        healthy = self.health is Health.HEALTHY
        self.next_check_s = now + (self.settings.interval_s if healthy else self.settings.recheck_s)

    def note(self, outcome: Outcome, now: float) -> None:
        """How a request that was sent to the server ended."""
        if self.health is not Health.HEALTHY:
            return
        if outcome is Outcome.OK:
            self._failed = 0
            self._on_trial = False
            self._open_s = self.settings.open_s
        elif outcome in (Outcome.FAILED, Outcome.TIMEOUT):
            self._failed += 1
            self.next_check_s = min(self.next_check_s, max(now, self._checked_s + self.settings.recheck_s))
            if self._on_trial or self._failed >= self.settings.failed_requests:
                self._open(now)

    def _open(self, now: float) -> None:
        self._open_until_s = now + self._open_s
        self._open_s = min(self._open_s * 2, self.settings.max_open_s)
        self._on_trial = True
        self._failed = 0
        self._leave_healthy()

    def _leave_healthy(self) -> None:
        if self.health is Health.HEALTHY:
            self.health = Health.UNHEALTHY


async def check(session: aiohttp.ClientSession, url: str, settings: HealthSettings) -> Check:
    """Asks the server at ``url`` once."""
    try:
        await fetch(session, f"{url}/health", Limits(settings.timeout_s, 1 << 16))
    except RefusedError:
        return Check.DOWN
    except FetchError as error:
        if error.status is None:
            return Check.LATE
        return Check.DOWN if error.status >= 500 else Check.OK
    return Check.OK
