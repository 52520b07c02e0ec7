"""Everything about the data plane that an operator may turn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class ProxyLimits:
    """Sizes in bytes, times in seconds."""

    max_head_bytes: int = 32 * 1024
    max_body_bytes: int = 64 * 1024 * 1024
    max_pipelined_bytes: int = 64 * 1024
    """What a client may send ahead while an answer is under way; then its socket is not read."""
    hold_bytes: int = 64 * 1024
    """How much of an answer is held back while it could still turn out to be none."""
    prefill_answer_bytes: int = 1024 * 1024
    """How long the answer of a prefill leg may be, and how much of an unstreamed answer is held back so that its usage
    can be corrected."""
    write_buffer_bytes: int = 256 * 1024
    """Bytes waiting for a slow client above which its replica is not read."""

    header_timeout_s: float = 10.0
    """From the first byte of a request's head to its last."""
    body_timeout_s: float = 30.0
    """Between two pieces of a request's body."""
    keep_alive_s: float = 75.0
    """How long a client's connection may be idle between requests."""
    linger_s: float = 2.0
    """How long bytes that nobody wants are read, so that the client sees why it was refused."""
    client_stall_s: float = 120.0
    """How long a client may refuse to read an answer."""

    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 600.0
    """From a request sent to the first byte of the body. An unstreamed answer has none until it is complete."""
    prefill_timeout_s: float = 120.0
    """From a prefill leg sent to the end of its answer."""
    stream_idle_timeout_s: float = 120.0
    """Between two pieces of an answer."""
    upstream_keep_alive_s: float = 4.0
    """Own idle connections are dropped after this; vLLM closes them at 5 s."""
    max_idle_connections: int = 512
    """Idle connections kept for each replica."""

    max_tries: int = 3
    """Replicas asked for one request, the first included."""
    retry_share: float = 0.2
    """Retries allowed per request in the long run, so that a failing fleet is not asked twice as much."""
    retry_burst: int = 20
    """Retries that may come on top of the share at once."""
    retry_after_s: int = 1
    """What a client is told to wait when every replica asked was overloaded."""

    drain_s: float = 60.0
    """How long running answers may take to finish at shutdown."""
    deadline_resolution_s: float = 0.25
    """How often deadlines are looked at; no time above is kept more exactly than this."""

    upstream_ca_file: str = ""
    """Certificates that sign ``https://`` replicas; empty means the system's."""
    upstream_verify: bool = True
