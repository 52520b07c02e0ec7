"""What decides the configuration of an Envoy in front of Weft."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from router.admin.programs import PROGRAMS_PATH
from router.proxy.limits import ProxyLimits

ENDPOINT_HEADER = "x-gateway-destination-endpoint"
"""The endpoint picker protocol's name for the replicas that are to serve a request, the best one first."""

MAX_HOLD_S = 3600.0
"""The longest time for which Envoy lets an external processor think."""

_LOCAL_PATHS = ("/health", "/metrics", "/ready", "/v1/models")
_LOCAL_TREES = (PROGRAMS_PATH,)


class BodyMode(StrEnum):
    """How Weft gets a request's body.

    Not STREAMED: Weft would not see it before it has to decide, and where Envoy sends it earlier, the replica gets
    some of it twice.
    """

    BUFFERED = "buffered"
    """In one message, after the head; Envoy keeps its copy and sends that on."""
    DUPLEX = "duplex"
    """In pieces, each of which Weft sends back. What gateways of the Gateway API Inference Extension insist on."""


@dataclass(slots=True, frozen=True)
class Tls:
    """Paths as Envoy's machine sees them. Envoy reads changed files again."""

    certificate: str = ""
    key: str = ""
    authorities: str = ""
    """Certificates that sign the other side's."""
    name: str = ""
    """That the other side's certificate must be for."""


@dataclass(slots=True, frozen=True)
class Fleet:
    """Which replicas Envoy may send requests to.

    Neither: any address that Weft names (ORIGINAL_DST). A request has one try then, and goes nowhere without Weft.
    Where Envoy knows the replicas, it tries Weft's next choice when one cannot be reached, and can do without Weft.
    """

    replicas: tuple[str, ...] = ()
    """URLs."""
    endpoints_file: Path | None = None
    """Endpoints that change, in a file which Envoy watches; see ``endpoints.py``."""
    secure: bool = False
    """Some may speak TLS. Envoy needs a file of authorities then."""

    @property
    def is_known(self) -> bool:
        return bool(self.replicas) or self.endpoints_file is not None


@dataclass(slots=True, frozen=True)
class EnvoySettings:
    """Addresses are ``HOST:PORT`` or ``unix:PATH``."""

    listen: str
    extproc: str
    """Weft's gRPC server: external processing and access logs."""
    weft: str = ""
    """Weft's HTTP server, for the paths that it answers itself. Empty: those paths are treated as all others."""
    admin: str = ""
    """Envoy's own interface; empty: none."""
    fleet: Fleet = Fleet()
    fail_open: bool = False
    """Without an answer from Weft, send requests to the replica with the fewest. Needs a known fleet."""
    body: BodyMode = BodyMode.BUFFERED
    access_log: bool = True
    """Tell Weft how each request ended; without it, Weft guesses."""
    health_checks: bool = True
    """Ask Weft's gRPC server whether it is well, so that one that hangs is not waited for."""
    listen_tls: Tls | None = None
    extproc_tls: Tls | None = None
    max_wait_s: float | None = 300.0
    """How long Weft may hold a request; None: as long as Envoy allows."""
    limits: ProxyLimits = field(default_factory=ProxyLimits)
    local_paths: tuple[str, ...] = _LOCAL_PATHS
    local_trees: tuple[str, ...] = _LOCAL_TREES

    @property
    def hold_s(self) -> float:
        """How long Envoy waits for Weft's choice: a little more than Weft lets a request wait."""
        return MAX_HOLD_S if self.max_wait_s is None else min(self.max_wait_s + 30.0, MAX_HOLD_S)
