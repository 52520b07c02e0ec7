"""The fleet as it comes and goes: watches every server that any discovery names, for as long as it is named."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from router.core.types import Outcome
from router.engine.context import EngineContext
from router.engine.discovery.address import ReplicaAddress
from router.engine.discovery.source import Addresses, Discovery
from router.engine.member import EngineSettings, Member

logger = logging.getLogger("weft.engine")

PAUSE_AFTER_DEFECT_S = 5.0


class Members:
    """``async with`` starts and stops it. ``by_name`` holds the servers by the name of their address.

    A server that several discoveries name is watched once, as the first of them describes it.
    """

    def __init__(
        self, context: EngineContext, sources: Iterable[Discovery], settings: EngineSettings | None = None
    ) -> None:
        self.by_name: dict[str, Member] = {}
        self._context = context
        self._sources = tuple(sources)
        self._settings = settings or EngineSettings()
        self._named: dict[int, Addresses] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._following: list[asyncio.Task[None]] = []
        self._changing = asyncio.Lock()

    async def __aenter__(self) -> Members:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Returns at once; replicas appear in the router as they answer."""
        self._following = [
            asyncio.create_task(self._follow(position, source), name=f"weft: discovery {position}")
            for position, source in enumerate(self._sources)
        ]

    async def stop(self) -> None:
        """Takes all replicas out of the router and ends the context's ZMQ."""
        await _cancel(self._following)
        await _cancel(self._watching.values())
        self._watching.clear()
        self.by_name.clear()
        self._context.zmq.destroy(linger=0)

    def note(self, replica: str, outcome: Outcome) -> None:
        """How a request that was sent to ``replica`` ended; unknown names are ignored."""
        member = self.by_name.get(replica.partition("#")[0])
        if member is not None:
            member.note(outcome)

    async def _follow(self, position: int, source: Discovery) -> None:
        while True:
            try:
                async for addresses in source.watch():
                    self._named[position] = addresses
                    await self._change()
                return
            except Exception:  # a defect in one discovery must not end the watching of the fleet
                self._defect(type(source).__name__)
            await asyncio.sleep(PAUSE_AFTER_DEFECT_S)

    async def _change(self) -> None:
        """Makes the set of watched servers the one that is named now."""
        async with self._changing:
            wanted: dict[str, ReplicaAddress] = {}
            for position in sorted(self._named):
                for address in self._named[position]:
                    wanted.setdefault(address.name, address)
            leaving = [name for name, member in self.by_name.items() if wanted.get(name) != member.address]
            await _cancel(self._watching[name] for name in leaving)
            for name in leaving:
                del self._watching[name], self.by_name[name]
            for name, address in wanted.items():
                if name not in self.by_name:
                    self.by_name[name] = member = Member(address, self._context, self._settings)
                    self._watching[name] = asyncio.create_task(self._watch(member), name=f"weft: watch {name}")

    async def _watch(self, member: Member) -> None:
        while True:
            try:
                await member.run()
            except Exception:  # a defect met with one server must not end the watching of the others
                self._defect(member.address.name)
            await asyncio.sleep(PAUSE_AFTER_DEFECT_S)

    def _defect(self, source: str) -> None:
        self._context.troubles.note("defect", source, "unexpected error, will be tried again; details follow")
        logger.exception("%s", source)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
