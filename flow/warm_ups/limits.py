"""How many warm-ups there may be, and when one is worth it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class WarmUpLimits:
    ahead_s: float = 10.0
    """How long before its program is expected back a prefix may be put back."""
    least_tokens: int = 1024
    """Of the prompt, that no replica holds; less is not worth it."""
    most_running: int = 0
    """Requests that a replica may be answering while it computes a warm-up."""
    max_in_flight: int = 1
    max_per_minute: int = 60
    max_kept: int = 1024
    """Programs whose last call is kept, to be sent once more, ..."""
    max_kept_bytes: int = 256 << 20
    """... and the memory of these: bodies, token ids and block hashes."""
