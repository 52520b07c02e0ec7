"""What goes wrong at the engine side: every case is counted, the log hears of each kind once in a while."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

logger = logging.getLogger("weft.engine")

QUIET_S = 60.0
"""The same trouble of the same source is logged at most this often."""


class Troubles:
    """``counts`` by kind, for telemetry."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._logged_s: dict[tuple[str, str], float] = {}

    def note(self, kind: str, source: str, message: str, times: int = 1) -> None:
        """One thing that went wrong at ``source`` (a replica, a file); ``kind`` is a metric label."""
        self.counts[kind] += times
        now = self._clock()
        logged_s = self._logged_s.get((source, kind))
        if logged_s is None or now - logged_s >= QUIET_S:
            self._logged_s[source, kind] = now
            logger.warning("%s: %s", source, message)

    def forget(self, source: str) -> None:
        """The source is gone; its counts stay."""
        for key in [key for key in self._logged_s if key[0] == source]:
            del self._logged_s[key]
