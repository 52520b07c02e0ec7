"""Counters of the data plane, read by telemetry when it is scraped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class ProxyStats:
    connections_total: int = 0
    connections_open: int = 0
    requests_total: int = 0
    """Requests read whole, those that the router answers itself included."""
    requests_in_flight: int = 0
    """Requests for replicas between their last byte read and the end of their answer."""
    answers: Counter[int] = field(default_factory=Counter)
    """Answers begun, by status."""
    clients_gone: int = 0
    """Requests whose client left before the answer ended."""
    clients_stalled: int = 0
    """Clients cut off because they did not read."""
    clients_timed_out: int = 0
    """Requests that did not arrive in time."""
    tries: Counter[str] = field(default_factory=Counter)
    """Tries at replicas by outcome."""
    retries: int = 0
    """Tries after the first of a request."""
    retries_denied: int = 0
    """Retries that the budget did not allow."""
    connects: int = 0
    connect_failures: int = 0
    stale_connections: int = 0
    """Kept connections that turned out to be dead when they were used, and were replaced."""
    priorities_refused: int = 0
    """Replicas that answered a priority with an error, and were asked again without."""
    prefill_legs: Counter[str] = field(default_factory=Counter)
    """Prompts that a prefill replica was asked to compute, by outcome."""
    served_whole: Counter[str] = field(default_factory=Counter)
    """Requests with a prefill leg that their decode replica had to serve alone, by reason."""
    stranded: int = 0
    """Prompts whose KV blocks a prefill replica keeps for nobody, until its lease ends."""
    broken_off: int = 0
    """Answers that failed after their first byte was sent to the client."""
    internal_errors: int = 0
    """Requests lost to an exception that nobody expected."""
