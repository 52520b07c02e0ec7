"""The data plane's parts, put together."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from router.core.types import Ticket
from router.engine.kv_transfer.connector import Connector
from router.proxy.deadlines import Deadlines
from router.proxy.heads import HttpRequest
from router.proxy.limits import ProxyLimits
from router.proxy.outbox import Outbox
from router.proxy.pool import Pools
from router.proxy.ports import Dispatcher, Intake, LocalRequest, LocalRoute, LocalRoutes, LocalTrees
from router.proxy.priorities import Priorities
from router.proxy.request_ids import RequestIds
from router.proxy.retry import RetryBudget
from router.proxy.stats import ProxyStats


class Proxy:
    """What all connections share. ``local_routes`` and ``local_trees`` are answered here; other POSTs below ``/v1/`` go
    to replicas."""

    def __init__(
        self,
        intake: Intake,
        dispatcher: Dispatcher,
        limits: ProxyLimits,
        local_routes: LocalRoutes,
        connector: Connector | None = None,
    ) -> None:
        """``connector`` knows how replicas hand over what they computed; without one nothing is split."""
        self.intake = intake
        self.dispatcher = dispatcher
        self.limits = limits
        self.local_routes = local_routes
        self.connector = connector
        self.local_trees: LocalTrees = {}
        self.stats = ProxyStats()
        self.deadlines = Deadlines(limits.deadline_resolution_s)
        self.outbox = Outbox()
        self.pools = Pools(limits, self.stats, self.deadlines, self.outbox)
        self.priorities = Priorities()
        self.budget = RetryBudget(limits.retry_share, limits.retry_burst)
        self.fresh_request_id = RequestIds().fresh
        self.routed: Callable[[Ticket, HttpRequest], None] | None = None
        """Is told of each request whose replica is chosen, before it is sent there."""

    def local_route(self, request: HttpRequest) -> LocalRoute | None:
        """How to answer a request here; None: that is not for this router to say."""
        path = request.path
        route = self.local_routes.get((request.method, path))
        root = self._root_of(path) if route is None else None
        if root is None:
            return route
        tree, query = self.local_trees[root], request.target.partition(b"?")[2].decode("ascii", "replace")
        if request.method not in tree.methods:
            return None
        asked = LocalRequest(request.method, path[len(root) :], query, request.headers, request.body)
        return lambda: tree.answer(asked)

    def goes_to_replicas(self, path: str) -> bool:
        """Whether ``path`` lies below ``/v1/``, whatever a server behind makes of ``..`` in it."""
        if not path.startswith("/v1/") or self._root_of(path) is not None:
            return False
        if "%" in path or "/." in path:
            return not {".", ".."} & set(unquote(path).split("/"))
        return True

    def methods_of(self, path: str) -> list[str]:
        """What ``path`` can be asked with; empty when there is no such path."""
        methods = {method for method, local_path in self.local_routes if local_path == path}
        if (root := self._root_of(path)) is not None:
            methods.update(self.local_trees[root].methods)
        return sorted(methods | {"POST"} if self.goes_to_replicas(path) else methods)

    def _root_of(self, path: str) -> str | None:
        for root in self.local_trees:
            if path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
                return root
        return None

    def close(self) -> None:
        """No connection of a client is left: let go of the replicas and of the event loop."""
        self.pools.close()
        self.deadlines.stop()
