"""Counters of the ext-proc server, read by telemetry when it is scraped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from router.core.histogram import Histogram


@dataclass(slots=True)
class ExtProcStats:
    streams: int = 0
    streams_open: int = 0
    sent: int = 0
    """Requests that were told where to go."""
    refused: Counter[int] = field(default_factory=Counter)
    """Answers at once, by status."""
    gone: int = 0
    """Requests whose stream ended before they were sent anywhere."""
    malformed: Counter[str] = field(default_factory=Counter)
    """Streams ended for what they said, by service."""
    internal_errors: int = 0
    logs_open: int = 0
    """Access logs that are being received."""
    logged: Counter[str] = field(default_factory=Counter)
    """Ends that the access log told, by outcome."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Answers by status, as logged, those that no replica gave included."""
    unmatched: int = 0
    """Log entries of requests that are not awaited: answered at once, sent elsewhere, or over for another reason."""
    presumed_over: int = 0
    """Requests taken off a replica because it has fewer than were sent there."""
    served_elsewhere: int = 0
    """Requests that another endpoint served than the one that was chosen."""
    priorities_refused: int = 0
    """Replicas found to take no priorities."""
    request_bytes: int = 0
    response_bytes: int = 0
    head_s: Histogram = field(default_factory=Histogram)
    """From a request's first byte to the first byte of the replica's answer, which may be its head alone."""
    duration_s: Histogram = field(default_factory=Histogram)
    """From a request's first byte to the last of its answer, as logged."""
