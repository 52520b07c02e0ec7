"""Faults on demand, each one that real replicas have shown."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import msgspec


class FaultKind(StrEnum):
    CRASH = "crash"
    """All connections are reset and the port is closed for ``down_s``; then it is back, empty, events from 0."""
    RESTART = "restart"
    """A crash that takes no time."""
    HANG = "hang"
    """The engine stands still: streams stay open without a byte, new requests wait; /health says 200."""
    SLOW = "slow"
    """Every step takes ``factor`` times as long."""
    REFUSE = "refuse"
    """Overload: 503 without Retry-After; a streamed completion gets 200 and an error event."""
    DRAIN = "drain"
    """SIGTERM with a shutdown timeout: running requests end normally, /health says 200, nothing new is begun.

    New requests meet what vLLM 0.32 does then: its renderer has been shut down, so that text gets a 500; token ids
    reach the engine, and get 200 with empty text and finish_reason ``abort``, or, streamed, no choice at all."""
    DROP_EVENTS = "drop_events"
    """The next ``batches`` batches of KV events are not sent, though they take a sequence number."""
    FAIL_TRANSFERS = "fail_transfers"
    """Keys and values of other replicas cannot be fetched any more, as when the network between them is gone."""
    FAIL_PREFILLS = "fail_prefills"
    """First legs (``do_remote_decode``) get a 500."""
    HANG_PREFILLS = "hang_prefills"
    """First legs are not answered; what else there is goes on."""
    NONE = "none"
    """Ends what lasts: hang, slow, refuse, drain and the three above; and drops no more events."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /sim/fault."""

    kind: FaultKind
    down_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 2.0
    factor: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 4.0
    batches: Annotated[int, msgspec.Meta(ge=0)] = 1
    replayable: bool = True
    """Whether dropped batches are in the replay buffer: lost on the way, or never published."""


@dataclass(slots=True)
class Condition:
    """The faults of a replica that last."""

    refuses: bool = False
    drains: bool = False
    drops_replayable: bool = True
    fails_transfers: bool = False
    fails_prefills: bool = False
    prefills_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.prefills_go_on.set()
