"""Where a replica is, and what the user says about it: ``URL[,key=value]...`` or the same as a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from router.core.types import Role
from router.engine.kv_events.endpoints import EndpointError, connectable

OPTIONS = ("events", "model", "ranks", "replay", "role", "label.NAME")
MAX_RANKS = 1024


class AddressError(ValueError):
    """Not a replica's address. The message says what is wrong and what is allowed."""


@dataclass(slots=True, frozen=True)
class ReplicaAddress:
    """One vLLM server."""

    url: str
    """Without a slash at the end."""
    events: str = "auto"
    """``auto``: as the server says (vLLM 0.32 and later). ``on``: also when it does not say, then at tcp://*:5557.
    ``off``, or the endpoint of rank 0; ``*`` as host stands for the server's own."""
    replay: str = ""
    """Endpoint of the replay socket of rank 0; empty: as the server says."""
    role: Role = Role.BOTH
    model: str = ""
    """The served name that counts as the model's own; empty: the first one that the server lists."""
    ranks: int = 0
    """Data-parallel ranks to route to one by one; 0: as many as the server has; 1: let vLLM balance among them."""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def name(self) -> str:
        """Unique among replicas: ``host:port``, and the path if there is one."""
        parts = urlsplit(self.url)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{_port(parts)}{parts.path}"


def parse_address(text: str) -> ReplicaAddress:
    """Reads ``http://host:8000,events=tcp://host:5557,label.zone=a``. Raises AddressError."""
    url, *pairs = (part.strip() for part in text.split(","))
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key in options:
            problem = "given twice" if equals else "expected KEY=VALUE"
            raise AddressError(f"replica {text!r}: {pair!r}: {problem}")
        options[key] = value
    return make_address(url, options)


def make_address(url: str, options: Mapping[str, str]) -> ReplicaAddress:
    """Checks one replica. Raises AddressError."""
    url = _checked_url(url)
    where = f"replica {url!r}"
    labels: dict[str, str] = {}
    for key, value in options.items():
        if key.startswith("label.") and len(key) > len("label."):
            labels[key.removeprefix("label.")] = value
        elif key not in OPTIONS:
            raise AddressError(f"{where}: unknown option {key!r}; allowed: {', '.join(OPTIONS)}")
    return ReplicaAddress(
        url=url,
        events=_checked_events(where, options.get("events", "auto")),
        replay=_checked_endpoint(where, "replay", options.get("replay", "")),
        role=_checked_role(where, options.get("role", Role.BOTH)),
        model=options.get("model", ""),
        ranks=_checked_ranks(where, options.get("ranks", "0")),
        labels=labels,
    )


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _port(parts)
    except ValueError as error:
        raise AddressError(f"replica {url!r}: not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.netloc != parts.netloc.strip():
        raise AddressError(f"replica {url!r}: expected http://HOST:PORT or https://HOST:PORT")
    if parts.query or parts.fragment or parts.username is not None:
        raise AddressError(f"replica {url!r}: no user, query or fragment allowed in the URL")
    return url.rstrip("/")


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _checked_events(where: str, value: str) -> str:
    if value in ("auto", "on", "off"):
        return value
    try:
        return _checked_endpoint(where, "events", value)
    except AddressError as error:
        raise AddressError(f"{error}; or auto, on, off") from error


def _checked_endpoint(where: str, key: str, value: str) -> str:
    if value:
        try:
            connectable(value, "host")
        except EndpointError as error:
            raise AddressError(f"{where}: {key}: {error}") from error
    elif key == "events":
        raise AddressError(f"{where}: events: empty; use tcp://HOST:PORT or ipc://PATH")
    return value


def _checked_role(where: str, value: str) -> Role:
    try:
        return Role(value)
    except ValueError as error:
        raise AddressError(f"{where}: role: {value!r}; allowed: {', '.join(Role)}") from error


def _checked_ranks(where: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 4 and int(value) <= MAX_RANKS):
        raise AddressError(f"{where}: ranks: {value!r}; allowed: 0 to {MAX_RANKS}")
    return int(value)
