"""The words of the core: what shells tell the router, and what it answers.

Nothing here knows of sockets, clocks or threads. Times are seconds on the shell's own monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from router.core.scheduler import Explanation

Tokens = NDArray[np.uint32]
"""Token ids of a prompt, in order."""

Hashes = NDArray[np.uint64]
"""Chained block hashes: element i identifies blocks 0..i."""

Scores = NDArray[np.float64]
"""One value per candidate, in [0, 1], higher is better."""


class Role(StrEnum):
    """Which legs of a request a replica serves."""

    BOTH = "both"
    PREFILL = "prefill"
    DECODE = "decode"


class Health(StrEnum):
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class IndexState(StrEnum):
    """How far the index can be trusted for one replica."""

    NONE = "none"
    """The replica reports no KV events; Weft remembers what it sent there."""
    SYNCED = "synced"
    """Every event since the replica's start, or since its cache was last empty, was seen."""
    PARTIAL = "partial"
    """Events arrive without gaps, but the replica's replay buffer did not reach back to its start."""
    DEGRADED = "degraded"
    """Events were lost and could not be replayed: what was known has been dropped."""


class Tier(IntEnum):
    """Where a replica holds a block. Lower is faster."""

    GPU = 0
    CPU = 1
    DISK = 2


class Outcome(Enum):
    """How a dispatched request ended."""

    OK = "ok"
    CLIENT_GONE = "client_gone"
    REJECTED = "rejected"
    """The replica refused it (overload, draining); nothing was computed."""
    FAILED = "failed"
    """Connection refused or broken, a 5xx, or an error event in the stream."""
    TIMEOUT = "timeout"


@dataclass(slots=True, frozen=True)
class ReplicaSpec:
    """What a shell knows of one replica: a vLLM server, or one data-parallel rank of it."""

    name: str
    """Unique, e.g. ``10.0.0.1:8000``, or ``10.0.0.1:8000#1`` for data-parallel rank 1."""
    url: str
    rank: int | None = None
    role: Role = Role.BOTH
    models: tuple[str, ...] = ()
    """Served names of the base model. The first is the one that enters block hashes."""
    adapters: tuple[str, ...] = ()
    """Names of the LoRA adapters that it can serve."""
    block_size_tokens: int = 16
    capacity_blocks: int = 0
    """KV blocks on the accelerator; 0 when unknown."""
    max_model_len_tokens: int = 0
    reports_events: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def base_model(self) -> str:
        return self.models[0] if self.models else ""


@dataclass(slots=True, frozen=True)
class LoadReport:
    """One scrape of a replica's metrics."""

    running: int
    waiting: int
    kv_usage: float
    """Share of KV blocks held by running requests, 0..1."""
    prefix_queries_tokens: float = 0.0
    prefix_hits_tokens: float = 0.0
    active_adapters: frozenset[str] = frozenset()
    """LoRA adapters that running or waiting requests use."""


@dataclass(slots=True, frozen=True)
class Prompt:
    """A prompt as blocks see it."""

    token_ids: Tokens
    exact: bool = True
    """True: the engine's own token ids. False: groups of four bytes of text stand in for tokens, so the
    blocks can only be compared with what Weft itself sent."""
    media: tuple[tuple[int, int], ...] = ()
    """(token position, 64-bit content key) of each image, video or audio in the prompt, ascending. The
    block that holds the position, and so all after it, hash differently for different media."""

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(slots=True, frozen=True)
class ProgramHint:
    """What a client says of the program that a request belongs to. Advice from a stranger: it may be wrong."""

    id: str
    """Empty: the client does not name its program, but says something of the call."""
    step: str = ""
    """This call's name in the program's graph."""
    after: tuple[str, ...] = ()
    """Steps that had to finish before this one."""
    join: str = ""
    """Siblings with the same name are waited for by one later step."""
    width: int = 0
    """How many siblings there are; 0: unknown."""
    parent: str = ""
    """The program that spawned this one."""
    kind: str = ""
    """Workflow or agent name: history is learned for each."""
    remaining_steps: int | None = None
    """LLM calls left on the longest path after this one."""
    output_tokens: int | None = None
    deadline_in_s: float | None = None
    """When the program should be done, counted from the arrival of this call."""
    priority: int = 0
    """Higher is more urgent."""
    final: bool = False
    """Nothing follows."""


@dataclass(slots=True)
class Request:
    """One request, ready to be routed."""

    id: str
    model: str
    """The name the client asked for: a served name or a LoRA adapter."""
    prompt: Prompt | None = None
    """None when there is nothing to hash; such requests are routed by load alone."""
    max_tokens: int | None = None
    streams: bool = False
    """The answer is sent token by token, so that its first byte marks the end of prefill."""
    cache_salt: str = ""
    session_id: str = ""
    tenant: str = ""
    program: ProgramHint | None = None
    lineage: str = ""
    """The program that its prompt belongs to, where nothing names one."""
    profile: str = ""
    """Scheduling profile; empty means the default one."""
    subset: frozenset[str] | None = None
    """When set, only replicas with these names may serve it."""
    excluded: frozenset[str] = frozenset()
    """Replicas that have already failed this request."""
    fallbacks: int = 0
    """How many more replicas are to be named, for whoever asks them if the first cannot be reached."""
    explain: bool = False
    says_priority: bool = False
    """Its body tells the engine a priority, which nobody has granted."""
    says_transfer: bool = False
    """Its body tells the engine where to fetch KV blocks, which is not for a client to say."""

    @property
    def prompt_tokens(self) -> int:
        return 0 if self.prompt is None else len(self.prompt.token_ids)

    @property
    def program_name(self) -> str:
        """Of its program, or else of its session or lineage. Empty: nothing says what it belongs to."""
        said = self.session_id if self.program is None else self.program.id or self.session_id
        return said or self.lineage

    @property
    def is_final(self) -> bool:
        """Nothing of its program follows, as far as its client tells; what names no program is one of its own."""
        return not self.program_name or (self.program is not None and self.program.final)

    @property
    def program_key(self) -> tuple[str, str]:
        """(tenant, program). A request of which no program or session is known is a program of its own."""
        return self.tenant, self.program_name or f"request {self.id}"


@dataclass(slots=True, frozen=True)
class Usage:
    """What the replica said a request cost. None: it did not say."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(slots=True, frozen=True)
class Decision:
    """Where a request goes."""

    replica: ReplicaSpec
    cached_tokens: int
    """Prompt tokens that the replica is expected not to compute."""
    explanation: Explanation | None = None
    priority: int | None = None
    """For an engine that schedules by priority: lower is earlier. None: it is told nothing."""
    fallbacks: tuple[ReplicaSpec, ...] = ()
    """The next best, best first. Nothing is counted for them."""


class RefusalReason(StrEnum):
    UNKNOWN_MODEL = "unknown_model"
    NO_REPLICA = "no_replica"
    QUEUE_FULL = "queue_full"
    TENANT_QUEUE_FULL = "tenant_queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    PROGRAM_BUDGET_EXCEEDED = "program_budget_exceeded"
    PROGRAM_LOOP = "program_loop"
    OWN_TRANSFER = "own_kv_transfer"


@dataclass(slots=True, frozen=True)
class Refusal:
    """Why a request is not routed."""

    reason: RefusalReason
    message: str
    retry_after_s: float | None = None


class TicketKind(Enum):
    """What a replica's work is for."""

    REQUEST = "request"
    """It answers a client. Where it has a prefill leg, it is the decode leg."""
    PREFILL = "prefill"
    """It computes a prompt whose KV blocks another replica fetches."""
    WARM_UP = "warm-up"
    """Nobody asked for it: it only brings a prompt back into a cache."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request's place in the router, from ``submit`` to ``on_response_end``."""

    request: Request
    submitted_s: float
    decision: Decision | None = None
    refusal: Refusal | None = None
    dispatched_s: float | None = None
    kind: TicketKind = TicketKind.REQUEST
    prefill: Ticket | None = None
    """Its prefill leg, where its prompt is computed on another replica first: a ticket with a decision of its own."""
