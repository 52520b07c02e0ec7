"""The endpoint picker: which replica a request goes to, and what the gateway has to change in its head.

Reads a request as the proxy does, with what the protocol adds: the endpoints that the gateway allows, the objective
that stands for a priority, and requests without a body, which any replica may answer.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from router.core.fleet import Fleet
from router.core.types import Outcome, ProgramHint, ReplicaSpec, Request, Ticket
from router.dispatcher import Dispatcher
from router.errors import ApiError
from router.extproc.addresses import Addresses
from router.extproc.messages import Headers
from router.extproc.names import MODEL, OBJECTIVES, TEST_SELECTION, host_of, stripped
from router.extproc.outstanding import Sent
from router.extproc.refusals import no_endpoint
from router.extproc.stream import Route
from router.extproc.wire import Destination
from router.intake import Intake
from router.proxy.headers import explanation_value
from router.proxy.origin import Origin
from router.proxy.priorities import Priorities
from router.proxy.request_ids import MAX_REQUEST_ID_BYTES, RequestIds


@dataclass(slots=True, frozen=True)
class PickerSettings:
    fallbacks: int = 0
    """Endpoints named behind the chosen one, to be tried if it cannot be reached."""
    objectives: Mapping[str, int] | None = None
    """Priority by the name of an objective; higher is more urgent."""
    conformance: bool = False
    """Heed the conformance tests' headers."""


@dataclass(slots=True, frozen=True)
class Picked:
    """Where a request goes."""

    destination: Destination
    added: Headers
    removed: list[str]
    explanation: bytes
    sent: Sent | None
    """None: nobody waits for its end."""


class Picker:
    def __init__(
        self,
        intake: Intake,
        dispatcher: Dispatcher,
        fleet: Fleet,
        priorities: Priorities,
        addresses: Addresses,
        settings: PickerSettings,
    ) -> None:
        self._intake = intake
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._priorities = priorities
        self._addresses = addresses
        self._settings = settings
        self._ids = RequestIds()
        self._random = random.Random()

    def request_id(self, headers: Headers) -> bytes:
        """The request's own, or a new one where it has none that can be kept."""
        given = [value for key, value in headers if key == b"x-request-id"]
        if len(given) == 1 and 0 < len(given[0]) <= MAX_REQUEST_ID_BYTES:
            return given[0]
        return self._ids.fresh()

    def pick(self, route: Route, request_id: bytes) -> Picked | Awaitable[Picked]:
        """At once where nothing has to be waited for. Raises ApiError; cancelled, it takes the request back."""
        named = dict(route.headers)
        hosts = self._allowed(route, named)
        if route.is_bodiless and named.get(b":method") != b"POST":
            return self._pick_any(route, request_id, hosts)
        read = self._read(route, named, request_id)
        if hosts is not None or not isinstance(read, Request):
            return self._pick_later(route, read, request_id, hosts)
        ticket = self._dispatcher.submit(self._completed(read, named))
        if ticket.decision is None:
            return self._pick_held(route, ticket, request_id)
        endpoints = [self._addresses.known(spec) for spec in _choices(ticket)]
        if None in endpoints:
            return self._pick_held(route, ticket, request_id)
        return self._picked(route, ticket, [each for each in endpoints if each], request_id)

    def _read(self, route: Route, named: Mapping[bytes, bytes], request_id: bytes) -> Request | Awaitable[Request]:
        headers = route.headers
        if named.get(b"x-request-id") != request_id:
            headers = [*headers, (b"x-request-id", request_id)]
        if route.body is None and not route.is_bodiless:
            return self._intake.read_head(headers)
        path = named.get(b":path", b"").partition(b"?")[0].decode("latin-1")
        return self._intake.read(path, headers, self._json(route, named))

    @staticmethod
    def _json(route: Route, named: Mapping[bytes, bytes]) -> bytes:
        """The body, if its type says that it can be read."""
        return route.body or b"" if b"json" in named.get(b"content-type", b"json") else b""

    def _completed(self, request: Request, named: Mapping[bytes, bytes]) -> Request:
        """With what only the gateway's headers say."""
        if not request.model and MODEL in named:
            request.model = named[MODEL].decode("latin-1")
        request.fallbacks = self._settings.fallbacks
        name = next((named[key] for key in OBJECTIVES if key in named), None)
        if name is not None and self._settings.objectives:
            priority = self._settings.objectives.get(name.decode("latin-1"), 0)
            if priority:
                request.program = replace(request.program or ProgramHint(""), priority=priority)
        return request

    async def _pick_later(
        self, route: Route, read: Request | Awaitable[Request], request_id: bytes, hosts: frozenset[str] | None
    ) -> Picked:
        request = self._completed(read if isinstance(read, Request) else await read, dict(route.headers))
        if hosts is not None:
            request.subset = await self._addresses.named(hosts, self._fleet)
        return await self._pick_held(route, self._dispatcher.submit(request), request_id)

    async def _pick_held(self, route: Route, ticket: Ticket, request_id: bytes) -> Picked:
        await self._dispatcher.wait(ticket)
        try:
            chosen, *others = _choices(ticket)
            endpoints = [await self._addresses.find(chosen)]
            endpoints += [known for spec in others if (known := self._addresses.known(spec)) is not None]
        except ApiError:
            self._dispatcher.response_ended(ticket, Outcome.FAILED)
            raise
        except BaseException:
            self._dispatcher.response_ended(ticket, Outcome.CLIENT_GONE)
            raise
        return self._picked(route, ticket, endpoints, request_id)

    async def _pick_any(self, route: Route, request_id: bytes, hosts: frozenset[str] | None) -> Picked:
        """A request without a body costs next to nothing: it is not queued, and weighs on nobody."""
        allowed = None if hosts is None else await self._addresses.named(hosts, self._fleet)
        able = [
            spec
            for slot, spec in self._fleet
            if self._fleet.routable[slot] and (allowed is None or spec.name in allowed)
        ]
        if not able:
            raise no_endpoint()
        spec = self._random.choice(able)
        added = self._added(route, spec, request_id)
        destination = Destination(await self._addresses.find(spec), spec.name)
        return Picked(destination, added, _removed(route, added), b"", None)

    def _picked(self, route: Route, ticket: Ticket, endpoints: list[str], request_id: bytes) -> Picked:
        decision = ticket.decision
        if decision is None:
            raise ValueError("a ticket that was routed has a decision")
        spec = decision.replica
        added = self._added(route, spec, request_id)
        priority = self._priorities.of(ticket.request, decision)
        if priority is not None:
            added.append((b"x-vllm-priority", b"%d" % priority))
        now = ticket.submitted_s if ticket.dispatched_s is None else ticket.dispatched_s
        return Picked(
            Destination(",".join(dict.fromkeys(endpoints)), spec.name),
            added,
            _removed(route, added),
            b"" if decision.explanation is None else explanation_value(decision.explanation),
            Sent(request_id.decode("latin-1"), ticket, spec.name, endpoints[0], now, priority),
        )

    @staticmethod
    def _added(route: Route, spec: ReplicaSpec, request_id: bytes) -> Headers:
        added: Headers = []
        if (b"x-request-id", request_id) not in route.headers:
            added.append((b"x-request-id", request_id))
        if spec.rank is not None:
            added.append((b"x-data-parallel-rank", b"%d" % spec.rank))
        base_path = _origin(spec.url).base_path
        if base_path:
            added.append((b":path", base_path + dict(route.headers).get(b":path", b"/")))
        return added

    def _allowed(self, route: Route, named: Mapping[bytes, bytes]) -> frozenset[str] | None:
        """The IP addresses that may serve the request; None: all."""
        if self._settings.conformance and (asked := named.get(TEST_SELECTION)):
            hosts = frozenset(host_of(each.strip()) for each in asked.decode("latin-1").split(","))
            present = {host_of(known) for _, spec in self._fleet if (known := self._addresses.known(spec))}
            return hosts & present or route.subset
        return route.subset


_origin = lru_cache(maxsize=4096)(Origin.parse)


def _choices(ticket: Ticket) -> list[ReplicaSpec]:
    """The chosen replica and those to fall back on."""
    decision = ticket.decision
    return [] if decision is None else [decision.replica, *decision.fallbacks]


def _removed(route: Route, added: Headers) -> list[str]:
    names = stripped(route.headers).difference(name for name, _ in added)
    return sorted(name.decode() for name in names)
