"""Keeps a mirror true: lists, watches, and after any mishap goes on from where it was, later each time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic

from router.engine.discovery.kubernetes_api import ApiError, Collection, Connection, KubernetesApi
from router.engine.discovery.kubernetes_mirror import GONE, Mirror, T, WatchError

SHORT_S = 1.0
"""A watch that brings nothing and is over sooner than this is not worth another one at once."""


@dataclass(slots=True, frozen=True)
class Pauses:
    """Seconds before the API server is asked again: doubled with each mishap in a row."""

    first_s: float = 0.5
    longest_s: float = 30.0

    def after(self, mishaps: int) -> float:
        """A random share of it, so that many routers do not come back at once."""
        return min(self.longest_s, self.first_s * 2.0 ** min(mishaps - 1, 20)) * random.uniform(0.5, 1.0)


class Follower(Generic[T]):
    """``run`` does everything. ``problem``: why nothing new is heard at the moment; empty: it is."""

    def __init__(
        self,
        api: KubernetesApi,
        collection: Collection,
        mirror: Mirror[T],
        changed: Callable[[], None],
        note: Callable[[str], None],
        pauses: Pauses,
    ) -> None:
        self.problem = ""
        self._api = api
        self._collection = collection
        self._mirror = mirror
        self._changed = changed
        self._note = note
        self._pauses = pauses
        self._mishaps = 0

    async def run(self) -> None:
        """Until cancelled. Calls ``changed`` after each change of the mirror, ``note`` with each mishap."""
        while True:
            try:
                async with self._api.connected() as connection:
                    while True:
                        await self._follow(connection)
            except (ApiError, WatchError) as error:
                self._mirror.cut()
                self._mishap(error)
            await asyncio.sleep(self._pauses.after(self._mishaps))

    async def _follow(self, connection: Connection) -> None:
        """One list if there must be, and one watch to its end. Raises ApiError or WatchError."""
        if not self._mirror.version:
            self._mirror.listed(await connection.list(self._collection))
            self.problem = ""
            self._changed()
        began_s = asyncio.get_running_loop().time()
        heard = False
        async with aclosing(connection.watch(self._collection, self._mirror.version)) as chunks:
            async for chunk in chunks:
                if self._mirror.feed(chunk):
                    self._changed()
                heard = True
                self._all_is_well()
        self._mirror.cut()
        if not heard and asyncio.get_running_loop().time() - began_s < SHORT_S:
            raise ApiError("the API server ends the watch at once")
        self._all_is_well()

    def _all_is_well(self) -> None:
        self._mishaps = 0
        self.problem = ""

    def _mishap(self, error: ApiError | WatchError) -> None:
        self._mishaps += 1
        if error.code == GONE:
            self._mirror.forget_version()
            if self._mishaps == 1:  # to be expected now and then
                return
        self.problem = str(error)
        self._note(self.problem)
