"""Flow control as plug-ins: an admission lets programs in, an order ranks what waits, a gate says who can start more.

    submitted ─► Admission ─► Queue, ranked by Order ─► Gate ─► Profile ─► dispatched

A request's replica is chosen when it leaves, not when it comes. Each part may also watch what becomes of requests: it
is then a `FlowObserver` as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from router.core.fleet import ModelRef
from router.core.prefix import Chain
from router.core.rates import PRIOR_TOKENS_PER_S
from router.core.types import Outcome, Request, Ticket, Usage
from router.core.view import Candidates, View

if TYPE_CHECKING:
    from router.core.held import Held
    from router.core.programs.call import Call
    from router.core.programs.step import Step

Rank = tuple[float, ...]
"""Lower leaves first; equals leave in the order in which they were submitted."""

ProgramKey = tuple[str, str]
"""Tenant and program, as `Request.program_key` has it."""

Mask = NDArray[np.bool_]
"""One value per candidate."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that has not left yet."""

    ticket: Ticket
    model: ModelRef
    chain: Chain | None
    number: int
    """Of its submission: 0, 1, 2, ..."""
    look_up_cached_tokens: Callable[[Waiting], int]
    pinned: str = ""
    """The only replica that it may go to, while that one is healthy; an admission may set it. Empty: any."""
    held: bool = False
    """The admission did not let it queue at once."""
    awaits_prefill: bool = False
    """It is to be prefilled on a replica of its own, and none had room when that was last looked at."""
    call: Call | None = None
    """What is known of it; None where programs are not followed."""

    @property
    def step(self) -> Step | None:
        """Its place in its program; None where programs are not followed. One of which nothing is known is made up only
        when somebody asks."""
        return None if self.call is None else self.call.step

    @property
    def request(self) -> Request:
        return self.ticket.request

    def best_cached_tokens(self) -> int:
        """How many of its prompt's tokens are held now by that replica, of those it may go to, that holds most."""
        return self.look_up_cached_tokens(self)

    @property
    def lane(self) -> tuple[object, ...]:
        """Requests with the same lane can go to the same replicas."""
        request = self.ticket.request
        return self.model, request.profile, request.subset, request.excluded, self.pinned, self.awaits_prefill


class ReplicaMemory(NamedTuple):
    """The KV memory of a healthy replica."""

    name: str
    capacity_tokens: float
    used_tokens: float
    """Held by running requests, by the last report."""
    prefill_tokens_per_s: float = PRIOR_TOKENS_PER_S
    """Learned."""
    model: str = ""
    """Base model that it serves; empty: unknown."""


Memories = Callable[[], Sequence[ReplicaMemory]]
"""Of the healthy replicas, gathered when asked."""


class OnReplica(NamedTuple):
    """What an admission has let in to a replica."""

    replica: str
    programs: int
    """With a call under way there, or a context that rests."""
    resting: int
    """Contexts between two calls."""
    wanted_tokens: float
    """KV memory that all of them take up, as the admission counts it."""


class Order(Protocol):
    """Says who goes first."""

    name: str

    def rank(self, waiting: Waiting, now: float) -> Rank:
        """Asked when a request joins the queue. Who finds room at once is never ranked: learn from `FlowObserver`."""


@runtime_checkable
class Restless(Protocol):
    """An order under which those who wait already may change places."""

    def moved(self, now: float) -> Collection[ProgramKey]:
        """Programs whose waiting requests must be ranked again, for what happened since this was last asked."""


@runtime_checkable
class Reconsidering(Protocol):
    """An order that judges programs by what is expected of them."""

    def reconsider(self, program: ProgramKey) -> None:
        """More is known of the program than its requests told: its client has declared its graph."""


@runtime_checkable
class Prioritising(Protocol):
    """An order that goes on inside the engine, for replicas that schedule by priority."""

    def engine_priority(self, waiting: Waiting) -> int | None:
        """Asked when the request leaves. Lower is earlier, 0 is usual; a few buckets serve better than many values.
        None: the replica is told nothing."""


class Gate(Protocol):
    """Says which replicas can usefully start one more request."""

    name: str

    def room(self, waiting: Waiting, candidates: Candidates, view: View) -> Mask: ...


class Admission(Protocol):
    """Holds requests of programs for which there is no memory."""

    name: str

    def enter(self, waiting: Waiting, replicas: Sequence[ReplicaMemory], now: float) -> bool:
        """Whether the request may queue. False: it is held until `release` returns it."""

    def release(self, held: Held, memories: Memories, now: float) -> list[Waiting]:
        """Held requests that may queue now; asked at every poll. ``held`` has them in the order of the queue."""

    def withdraw(self, waiting: Waiting) -> None:
        """Forgets a held request that will not be released."""

    def next_wakeup(self) -> float | None:
        """When to ask `release` again if nothing happens."""

    def on_replicas(self) -> list[OnReplica]:
        """Who is in, for metrics."""


@runtime_checkable
class FlowObserver(Protocol):
    """Is told what becomes of requests."""

    def submitted(self, waiting: Waiting, now: float) -> None: ...

    def dispatched(self, waiting: Waiting, now: float) -> None:
        """It left; ``waiting.ticket.decision`` says where to."""

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        """It will not leave: its client is gone, or it was refused."""

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """A dispatched request is over; ``ticket.dispatched_s`` says since when it ran."""


class Fcfs:
    """First come, first served."""

    name = "fcfs"

    def rank(self, waiting: Waiting, now: float) -> Rank:
        return ()


@dataclass(slots=True, frozen=True)
class QueueLimits:
    """Who has to wait and would be one too many is refused. None: as many, or as long, as it takes."""

    max_waiting: int | None = None
    max_waiting_per_tenant: int | None = None
    max_waiting_of: Mapping[str, int] = field(default_factory=dict)
    """The same for single tenants."""
    max_wait_s: float | None = None


@dataclass(slots=True)
class Flow:
    """One way to queue. Its parts may keep state; a flow belongs to one router. As it stands here, nothing waits."""

    order: Order = field(default_factory=Fcfs)
    gate: Gate | None = None
    """None: every replica can always start more."""
    admission: Admission | None = None
    """None: every program is let in."""
    limits: QueueLimits = field(default_factory=QueueLimits)
    watchers: Sequence[FlowObserver] = ()
    """Who else is told, after the parts above."""

    @property
    def observers(self) -> list[FlowObserver]:
        parts: tuple[object, ...] = (self.order, self.gate, self.admission)
        return [*(part for part in parts if isinstance(part, FlowObserver)), *self.watchers]
