"""What a simulated cluster is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.core.types import Role
from sim.engine import EngineConfig, TransferModel


@dataclass(slots=True, frozen=True)
class Link:
    """How messages travel from a replica to a router: in order, late, and not always."""

    delay_s: float = 0.001
    jitter_s: float = 0.0
    """Up to this much is added to the delay of each message, drawn uniformly."""
    loss: float = 0.0
    """Share of messages that never arrive, 0..1."""

    def __post_init__(self) -> None:
        if self.delay_s < 0 or self.jitter_s < 0 or not 0 <= self.loss <= 1:
            raise ValueError("a link needs delay_s >= 0, jitter_s >= 0 and loss within 0..1")


@dataclass(slots=True, frozen=True)
class ClusterConfig:
    engine: EngineConfig
    replicas: int = 8
    routers: int = 1
    """Each knows only what it sent itself and what the replicas tell it. Each request goes to one drawn at random."""
    model: str = "model"
    kv_events: Link | None = field(default_factory=Link)
    """None: the replicas report no KV events, and routers go by what they sent."""
    replay_s: float | None = 0.02
    """How long it takes to get lost KV events from the replay socket once they are missed. None: there is none, and
    the router degrades the replica."""
    load_reports: Link = field(default_factory=Link)
    report_interval_s: float = 1.0
    """Between two scrapes of one replica's metrics by one router."""
    proxy_s: float = 0.001
    """From the client's sending of a request to its being read, tokenised and handed to the router."""
    network_s: float = 0.0005
    """One way between router and replica."""
    roles: tuple[Role, ...] = ()
    """Of each replica; empty: all serve both legs."""
    transfer: TransferModel | None = None
    """Of KV blocks between replicas. None: no router hands a prompt over."""
    transfer_failures: float = 0.0
    """Share of transfers that fail, 0..1."""

    def __post_init__(self) -> None:
        if self.replicas < 1 or self.routers < 1:
            raise ValueError("a cluster needs at least 1 replica and 1 router")
        if self.roles and len(self.roles) != self.replicas:
            raise ValueError(f"{self.replicas} replicas need as many roles, not {len(self.roles)}")
        if self.roles and all(role is Role.PREFILL for role in self.roles):
            raise ValueError("a cluster needs a replica that answers: one of role decode or both")
        if not 0 <= self.transfer_failures <= 1:
            raise ValueError("transfer_failures is a share within 0..1")
        if self.report_interval_s <= 0:
            raise ValueError("report_interval_s must be positive")
        if min(self.proxy_s, self.network_s, self.replay_s or 0.0) < 0:
            raise ValueError("proxy_s, network_s and replay_s must not be negative")

    def role(self, number: int) -> Role:
        return self.roles[number] if self.roles else Role.BOTH
