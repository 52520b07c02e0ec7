"""Connections to the replicas, kept while they are likely to be alive.

vLLM closes a connection that was idle for five seconds. A request sent at that moment is lost, so idle
connections are dropped earlier; the race that remains is caught by one try on a fresh connection.
"""

from __future__ import annotations

import asyncio
import ssl

from router.proxy.deadlines import NEVER, Deadlines
from router.proxy.limits import ProxyLimits
from router.proxy.origin import Origin
from router.proxy.outbox import Outbox
from router.proxy.stats import ProxyStats
from router.proxy.upstream import UpstreamConnection


class Pool:
    """The connections to one origin. Last in, first out, so that those not needed grow old."""

    def __init__(self, url: str, pools: Pools) -> None:
        self.url = url
        self.origin = Origin.parse(url)
        self.deadline_s = NEVER
        self.outbox = pools.outbox
        self._pools = pools
        self._limits = pools.limits
        self._idle: dict[UpstreamConnection, float] = {}
        """Since when, oldest first."""
        self._open = 0
        """Connections made and not yet lost, idle or not."""

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """An idle connection that should still be alive."""
        self.drop_old()
        if not self._idle:
            return None
        connection, _ = self._idle.popitem()
        return connection

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises OSError or TimeoutError."""
        origin = self.origin
        stats = self._pools.stats
        stats.connects += 1
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: UpstreamConnection(self),
                    origin.host,
                    origin.port,
                    ssl=self._pools.tls if origin.tls else None,
                )
        except OSError:
            stats.connect_failures += 1
            raise
        finally:
            self._forget_if_unused()
        return connection

    def made(self) -> None:
        """A connection was made; it will be lost one day."""
        self._open += 1

    def give_back(self, connection: UpstreamConnection) -> None:
        """The answer is complete and the connection can carry another request."""
        if len(self._idle) >= self._limits.max_idle_connections or not self._pools.holds(self):
            connection.abort()
            return
        self._idle[connection] = asyncio.get_running_loop().time()
        if self.deadline_s == NEVER:
            self.deadline_passed()

    def lost(self, connection: UpstreamConnection) -> None:
        """It was closed, maybe by the other side while idle."""
        self._idle.pop(connection, None)
        self._open -= 1
        self._forget_if_unused()

    def _forget_if_unused(self) -> None:
        if self._open == 0:
            self._pools.forget(self)

    def drop_old(self) -> None:
        """Close what has been idle for too long."""
        oldest_kept = asyncio.get_running_loop().time() - self._limits.upstream_keep_alive_s
        while self._idle:
            connection, since = next(iter(self._idle.items()))
            if since > oldest_kept:
                break
            del self._idle[connection]
            connection.abort()

    def deadline_passed(self) -> None:
        self.drop_old()
        oldest = next(iter(self._idle.values()), NEVER)
        self.deadline_s = oldest + self._limits.upstream_keep_alive_s

    def close(self) -> None:
        for connection in list(self._idle):
            connection.abort()
        self._idle.clear()


class Pools:
    """One pool for each base URL; data-parallel ranks of one server share it."""

    def __init__(self, limits: ProxyLimits, stats: ProxyStats, deadlines: Deadlines, outbox: Outbox) -> None:
        self.limits = limits
        self.stats = stats
        self.outbox = outbox
        self._deadlines = deadlines
        self._pools: dict[str, Pool] = {}
        self._tls: ssl.SSLContext | None = None

    @property
    def tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self.limits.upstream_ca_file or None)
            if not self.limits.upstream_verify:
                self._tls.check_hostname = False
                self._tls.verify_mode = ssl.CERT_NONE
        return self._tls

    def of(self, url: str) -> Pool:
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = Pool(url, self)
            self._deadlines.add(pool)
        return pool

    def holds(self, pool: Pool) -> bool:
        """Whether a connection that is given back to ``pool`` can be found again."""
        return self._pools.get(pool.url) is pool

    def forget(self, pool: Pool) -> None:
        """It has no connection left; replicas come and go, and their pools with them."""
        if self.holds(pool):
            del self._pools[pool.url]
            self._deadlines.discard(pool)

    def close(self) -> None:
        """Close what is idle; what is in use closes when its answer ends."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()
