"""Where a replica listens."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(slots=True, frozen=True)
class Origin:
    """A replica's base URL, taken apart."""

    host: str
    port: int
    tls: bool
    authority: bytes
    """For the Host header."""
    base_path: bytes

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Raises ValueError when ``url`` is not an http or https URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"replica URL {url!r} must look like http://host:port")
        tls = parts.scheme == "https"
        authority = parts.netloc.rpartition("@")[2]
        return cls(
            host=parts.hostname,
            port=parts.port or (443 if tls else 80),
            tls=tls,
            authority=authority.encode("idna" if not authority.isascii() else "ascii"),
            base_path=parts.path.rstrip("/").encode(),
        )
