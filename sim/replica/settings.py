"""What one simulated replica is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from router.core.types import Role
from sim.engine import EngineConfig, TransferModel
from sim.replica.kv_messages import EventForm


@dataclass(slots=True, frozen=True)
class KvTransfer:
    """How a replica hands keys and values over to others: over NIXL, or through a folder."""

    model: TransferModel
    host: str = "127.0.0.1"
    """Where other replicas come for them, over NIXL."""
    port: int = 0
    storage: Path | None = None
    """The folder that all of them read and write."""


@dataclass(slots=True, frozen=True)
class Settings:
    engine: EngineConfig
    model: str
    """Served model name."""
    index: int = 0
    """Number among the replicas of a process; enters the topic of its KV events."""
    host: str = "127.0.0.1"
    port: int = 0
    """Of HTTP; 0 for any free one, here and below."""
    kv_events_port: int | None = 0
    """None: the replica publishes no KV events."""
    kv_replay_port: int = 0
    speed: float = 1.0
    seed: int = 0
    """Of the answers' words and lengths."""
    buffer_steps: int = 10_000
    """Batches of KV events that can be replayed."""
    event_form: EventForm = EventForm.MAP
    kv_transfer: KvTransfer | None = None
    """None: it keeps what it computes to itself."""
    role: Role = Role.BOTH
    """What it is for. As in vLLM it answers whatever it is asked, whichever leg that belongs to."""

    @property
    def topic(self) -> str:
        return f"kv@replica{self.index}@{self.model}"
