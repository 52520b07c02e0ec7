"""Metrics of a replica with NixlConnector, under vLLM's names."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

_XFER_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 5.0)
_BYTES = tuple(float(2 ** (10 + power)) for power in range(1, 25, 2))


class NixlMetrics:
    def __init__(self, registry: CollectorRegistry, labels: Mapping[str, str]) -> None:
        def counter(name: str, help_text: str) -> Counter:
            return Counter(f"vllm:nixl_{name}", help_text, list(labels), registry=registry).labels(**labels)

        def histogram(name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
            made = Histogram(f"vllm:nixl_{name}", help_text, list(labels), registry=registry, buckets=buckets)
            return made.labels(**labels)

        self._xfer = histogram("xfer_time_seconds", "Time that transfers took.", _XFER_S)
        self._bytes = histogram("bytes_transferred", "Bytes of transfers.", _BYTES)
        self._failed = counter("num_failed_transfers", "Transfers that failed, handshakes and notifications included.")
        self._failed_notifications = counter("num_failed_notifications", "Notifications that failed.")
        self._expired = counter("num_kv_expired_reqs", "Requests whose kept blocks nobody came for in time.")
        self._late = counter("num_notifications_after_expiry", "Notifications for blocks that were kept no longer.")
        self._expired_seen = 0

    def transferred(self, seconds: float, size_bytes: int) -> None:
        self._xfer.observe(seconds)
        self._bytes.observe(size_bytes)

    def failed(self) -> None:
        self._failed.inc()

    def notification_failed(self) -> None:
        self._failed.inc()
        self._failed_notifications.inc()

    def expired(self, leases: int) -> None:
        """So many leases have ended until now."""
        self._expired.inc(leases - self._expired_seen)
        self._expired_seen = leases

    def late(self) -> None:
        self._late.inc()
