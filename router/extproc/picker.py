"""The endpoint picker: which replica a request goes to, and what the gateway has to change in its head.

Picks as the proxy does, with what the protocol adds: the endpoints that the gateway allows, requests without a body,
which any replica may answer, those that only want what is cached, and prefill replicas, which the sidecar of the chosen
replica asks.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import NamedTuple

from router.core.fleet import Fleet
from router.core.types import Decision, Outcome, Request, Ticket
from router.dispatcher import Dispatcher
from router.errors import ApiError
from router.extproc.addresses import Addresses
from router.extproc.head import added, removed
from router.extproc.messages import Headers
from router.extproc.names import IF_AVAILABLE, TEST_SELECTION, host_of, prefers
from router.extproc.outstanding import Sent
from router.extproc.reading import Named, PickerSettings, Reading, path_of
from router.extproc.refusals import no_endpoint, not_available
from router.extproc.sidecar import can_split
from router.extproc.stream import Route
from router.extproc.wire import Destination
from router.intake import Intake
from router.proxy.headers import explanation_value
from router.proxy.priorities import Priorities
from router.proxy.request_ids import MAX_REQUEST_ID_BYTES, RequestIds


@dataclass(slots=True, frozen=True)
class Picked:
    """Where a request goes."""

    destination: Destination
    added: Headers
    removed: list[str]
    explanation: bytes
    sent: Sent | None
    """None: nobody waits for its end."""


class _Places(NamedTuple):
    """Addresses."""

    endpoints: list[str]
    """Of the chosen replica, and of those to fall back on."""
    prefiller: str
    """Of the replica that computes the prompt; empty: the chosen one does."""


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
        self._reading = Reading(intake, settings)
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
        read = self._reading.read(route, named, request_id)
        if hosts is not None or not isinstance(read, Request):
            return self._pick_later(route, named, read, request_id, hosts)
        ticket = self._dispatcher.submit(self._reading.completed(read, named))
        if ticket.decision is None:
            return self._pick_held(route, named, ticket, request_id)
        self._accept(route, named, ticket)
        places = self._known(ticket)
        if places is None:
            return self._pick_unknown(route, ticket, request_id)
        return self._picked(route, ticket, places, request_id)

    async def _pick_later(
        self,
        route: Route,
        named: Named,
        read: Request | Awaitable[Request],
        request_id: bytes,
        hosts: frozenset[str] | None,
    ) -> Picked:
        request = self._reading.completed(read if isinstance(read, Request) else await read, named)
        if hosts is not None:
            request.subset = await self._addresses.named(hosts, self._fleet)
        return await self._pick_held(route, named, self._dispatcher.submit(request), request_id)

    async def _pick_held(self, route: Route, named: Named, ticket: Ticket, request_id: bytes) -> Picked:
        await self._dispatcher.wait(ticket)
        self._accept(route, named, ticket)
        return await self._pick_unknown(route, ticket, request_id)

    async def _pick_unknown(self, route: Route, ticket: Ticket, request_id: bytes) -> Picked:
        """The replicas are chosen, their addresses may have to be looked up."""
        try:
            while (places := self._known(ticket)) is None:
                await self._look_up(ticket)
        except ApiError:
            self._dispatcher.response_ended(ticket, Outcome.FAILED)
            raise
        except BaseException:
            self._dispatcher.response_ended(ticket, Outcome.CLIENT_GONE)
            raise
        return self._picked(route, ticket, places, request_id)

    def _accept(self, route: Route, named: Named, ticket: Ticket) -> None:
        """Makes of the decision what this request can have. Raises ApiError 412 where it would rather have nothing."""
        if not _decision(ticket).cached_tokens and prefers(named.get(b"prefer", b""), IF_AVAILABLE):
            self._dispatcher.response_ended(ticket, Outcome.CLIENT_GONE)
            raise not_available()
        if ticket.prefill is not None and not can_split(path_of(named), route.body or b""):
            self._dispatcher.serve_whole(ticket)

    def _known(self, ticket: Ticket) -> _Places | None:
        """None: an address must be looked up first."""
        known, decision = self._addresses.known, _decision(ticket)
        endpoint = known(decision.replica)
        prefiller = "" if ticket.prefill is None else known(_decision(ticket.prefill).replica)
        if endpoint is None or prefiller is None:
            return None
        others = [address for spec in decision.fallbacks if (address := known(spec)) is not None]
        return _Places([endpoint, *others], prefiller)

    async def _look_up(self, ticket: Ticket) -> None:
        """Raises ApiError. A prefill replica that cannot be found is done without."""
        await self._addresses.find(_decision(ticket).replica)
        if ticket.prefill is not None:
            try:
                await self._addresses.find(_decision(ticket.prefill).replica)
            except ApiError:
                self._dispatcher.serve_whole(ticket)

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
        told = added(route.headers, spec, request_id)
        destination = Destination(await self._addresses.find(spec), spec.name)
        return Picked(destination, told, removed(route.headers, told), b"", None)

    def _picked(self, route: Route, ticket: Ticket, places: _Places, request_id: bytes) -> Picked:
        decision, endpoints = _decision(ticket), places.endpoints
        spec, priority = decision.replica, self._priorities.of(ticket.request, decision)
        told = added(route.headers, spec, request_id, priority, places.prefiller)
        now = ticket.submitted_s if ticket.dispatched_s is None else ticket.dispatched_s
        return Picked(
            Destination(",".join(dict.fromkeys(endpoints)), spec.name),
            told,
            removed(route.headers, told),
            b"" if decision.explanation is None else explanation_value(decision.explanation),
            Sent(request_id.decode("latin-1"), ticket, spec.name, endpoints[0], now, priority),
        )

    def _allowed(self, route: Route, named: Named) -> frozenset[str] | None:
        """The IP addresses that may serve the request; None: all."""
        if self._settings.conformance and (asked := named.get(TEST_SELECTION)):
            hosts = frozenset(host_of(each.strip()) for each in asked.decode("latin-1").split(","))
            present = {host_of(known) for _, spec in self._fleet if (known := self._addresses.known(spec))}
            return hosts & present or route.subset
        return route.subset


def _decision(ticket: Ticket) -> Decision:
    if ticket.decision is None:
        raise ValueError("a ticket that was routed has a decision")
    return ticket.decision
