"""What the data plane needs from the rest of the router, and what it lends to it.

The proxy moves bytes. What a body means is the intake's business, where it goes is the dispatcher's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from router.core.types import Outcome, Request, Ticket, Usage

Headers = list[tuple[bytes, bytes]]
"""Header lines in the order of the wire, names in lower case."""


class Intake(Protocol):
    """Reads a client's request."""

    def read(self, path: str, headers: Headers, body: bytes) -> Request | Awaitable[Request]:
        """Make the request that is to be routed.

        ``headers`` are the client's own, ``x-weft-*`` included, and always hold an ``x-request-id``. ``body``
        is empty when the content type says that it is not JSON (an audio upload, say): such a request can
        only be routed by its path and headers. Raises ApiError; may be cancelled while it waits.
        """


class Dispatcher(Protocol):
    """Chooses replicas, and is told how each try ended."""

    async def route(self, request: Request) -> Ticket:
        """Wait for a place. The ticket's ``decision`` is set.

        Raises ApiError. When it is cancelled the client is gone: it must take back what it had handed out.
        """

    def response_started(self, ticket: Ticket) -> None:
        """The first bytes of an answer arrived from the replica and go to the client. At most once."""

    def prefill_ended(self, leg: Ticket, outcome: Outcome, usage: Usage | None = None) -> None:
        """A ``ticket.prefill`` is over. Exactly once for each that is sent."""

    def prefill_elsewhere(self, ticket: Ticket) -> bool:
        """After a prefill leg that failed. True: ``ticket.prefill`` is another one. False: it is None, the decode
        replica is to compute the prompt itself."""

    def serve_whole(self, ticket: Ticket) -> None:
        """The decode replica is to compute the prompt itself after all: ``ticket.prefill`` is None from now on."""

    def response_ended(self, ticket: Ticket, outcome: Outcome, usage: Usage | None = None) -> None:
        """The try is over. Exactly once for each ticket that ``route`` returned."""


@dataclass(slots=True, frozen=True)
class LocalResponse:
    """An answer that the router gives itself. Content-Length is added."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""


@dataclass(slots=True, frozen=True)
class LocalRequest:
    """What a request asks of the router itself."""

    method: str
    path: str
    """Behind the tree's own, as it came: percent-encoded; empty, or it begins with a slash."""
    query: str
    headers: Headers
    body: bytes


LocalRoute = Callable[[], LocalResponse | Awaitable[LocalResponse]]
LocalRoutes = Mapping[tuple[str, str], LocalRoute]
"""(method, path) of each request that does not go to a replica."""


class LocalTree(Protocol):
    """Answers all requests for a path and for what lies below it. Raises ApiError."""

    methods: Sequence[str]

    def answer(self, request: LocalRequest) -> LocalResponse | Awaitable[LocalResponse]: ...


LocalTrees = Mapping[str, LocalTree]
"""By path, which does not end with a slash."""
