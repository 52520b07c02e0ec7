"""The data plane's parts, put together."""

from __future__ import annotations

import itertools
import os
from urllib.parse import unquote

from router.proxy.deadlines import Deadlines
from router.proxy.limits import ProxyLimits
from router.proxy.outbox import Outbox
from router.proxy.pool import Pools
from router.proxy.ports import Dispatcher, Intake, LocalRoutes
from router.proxy.priorities import Priorities
from router.proxy.retry import RetryBudget
from router.proxy.stats import ProxyStats


class Proxy:
    """What all connections share. ``local_routes`` are answered here; POSTs below ``/v1/`` go to replicas."""

    def __init__(self, intake: Intake, dispatcher: Dispatcher, limits: ProxyLimits, local_routes: LocalRoutes) -> None:
        self.intake = intake
        self.dispatcher = dispatcher
        self.limits = limits
        self.local_routes = local_routes
        self.stats = ProxyStats()
        self.deadlines = Deadlines(limits.deadline_resolution_s)
        self.outbox = Outbox()
        self.pools = Pools(limits, self.stats, self.deadlines, self.outbox)
        self.priorities = Priorities()
        self.budget = RetryBudget(limits.retry_share, limits.retry_burst)
        self._id_prefix = os.urandom(8).hex().encode()
        self._id_count = itertools.count()

    def fresh_request_id(self) -> bytes:
        return b"%s-%x" % (self._id_prefix, next(self._id_count))

    def goes_to_replicas(self, path: str) -> bool:
        """Whether ``path`` lies below ``/v1/``, whatever a server behind makes of ``..`` in it."""
        if not path.startswith("/v1/"):
            return False
        if "%" in path or "/." in path:
            return not {".", ".."} & set(unquote(path).split("/"))
        return True

    def methods_of(self, path: str) -> list[str]:
        """What ``path`` can be asked with; empty when there is no such path."""
        methods = {method for method, local_path in self.local_routes if local_path == path}
        return sorted(methods | {"POST"} if self.goes_to_replicas(path) else methods)

    def close(self) -> None:
        """No connection of a client is left: let go of the replicas and of the event loop."""
        self.pools.close()
        self.deadlines.stop()
