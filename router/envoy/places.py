"""Replicas as Envoy's endpoints: an address, the name in its certificate if it has one, and how it is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from router.core.types import Health
from router.envoy.address import Json, to_dial

TLS = "tls"
"""What marks endpoints that are spoken to in TLS."""

_HEALTH = {
    Health.STARTING: "UNHEALTHY",
    Health.HEALTHY: "HEALTHY",
    Health.UNHEALTHY: "UNHEALTHY",
    Health.DRAINING: "DRAINING",
}


@dataclass(slots=True, frozen=True)
class Place:
    """A replica."""

    address: str
    """``HOST:PORT``."""
    tls_name: str = ""
    """Empty: plain text."""
    health: Health = Health.HEALTHY
    """Heeded only where a request goes on without Weft: Weft's own choice stands."""

    def endpoint(self) -> Json:
        """Raises ValueError for what is not an address."""
        content: Json = {"endpoint": {"address": to_dial(self.address)}, "health_status": _HEALTH[self.health]}
        if self.tls_name:
            content["endpoint"]["hostname"] = self.tls_name
            content["metadata"] = {"filter_metadata": {"envoy.transport_socket_match": {TLS: True}}}
        return content


def place_of(url: str, address: str = "", health: Health = Health.HEALTHY) -> Place:
    """The place of a replica's URL; ``address`` is the URL's own host and port if empty. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"{url!r}: expected http://HOST:PORT or https://HOST:PORT, without a path")
    secure = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = address or f"{host}:{parts.port or (443 if secure else 80)}"
    return Place(address, parts.hostname if secure else "", health)
