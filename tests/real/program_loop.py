"""Programs in a closed loop: so many at a time, the next one starts when one ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import mean

import aiohttp
from program_calls import Calls
from program_mix import Mix
from real_programs import read_answer

from sim.workloads.program import Program, Step

_TIMEOUT = aiohttp.ClientTimeout(900)


@dataclass(slots=True)
class Call:
    """One call as its client saw it; times count from the start of the run."""

    program: str
    step: str
    replica: str
    prompt_tokens: int
    cached_tokens: int
    predicted_tokens: int
    """Cached tokens that the router expected."""
    queued_s: float
    """In the router."""
    waited_for: str
    """"admission", "room", or "" where it did not wait."""
    priority: int | None
    """What the engine was told."""
    sent_s: float
    first_s: float
    ended_s: float


@dataclass(slots=True)
class Served:
    """What became of all programs."""

    calls: list[Call] = field(default_factory=list)
    programs_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    """When each began and ended."""

    @property
    def total_s(self) -> float:
        return max(end for _, end in self.programs_s.values())

    @property
    def completions_s(self) -> list[float]:
        """Ascending."""
        return sorted(end - begin for begin, end in self.programs_s.values())

    @property
    def mean_s(self) -> float:
        return mean(self.completions_s)

    @property
    def p95_s(self) -> float:
        completions_s = self.completions_s
        return completions_s[round(0.95 * (len(completions_s) - 1))]

    @property
    def hit_rate(self) -> float:
        return sum(call.cached_tokens for call in self.calls) / sum(call.prompt_tokens for call in self.calls)


async def serve(mix: Mix, url: str, model: str, in_flight: int, hinted: bool) -> Served:
    """Raises AssertionError when a call is not answered in full."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=0)) as session:
        loop = _Loop(mix, session, url, model, hinted)
        waiting = iter(mix.programs)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(in_flight):
                tasks.create_task(loop.client(waiting))
        return loop.served


class _Loop:
    def __init__(self, mix: Mix, session: aiohttp.ClientSession, url: str, model: str, hinted: bool) -> None:
        self.served = Served()
        self._mix = mix
        self._session = session
        self._url = url
        self._model = model
        self._hinted = hinted
        self._began_s = time.perf_counter()

    async def client(self, waiting: Iterator[Program]) -> None:
        for program in waiting:
            begun_s = self._now_s()
            calls = Calls(program, self._mix, self._model, self._hinted)
            ended = {step.name: asyncio.Event() for step in program.steps}
            async with asyncio.TaskGroup() as tasks:
                for step in program.steps:
                    tasks.create_task(self._step(program, step, calls, ended))
            self.served.programs_s[program.id] = (begun_s, self._now_s())

    async def _step(self, program: Program, step: Step, calls: Calls, ended: Mapping[str, asyncio.Event]) -> None:
        for name in step.after:
            await ended[name].wait()
        await asyncio.sleep(step.wait_s)
        await self._ask(program, step, calls)
        ended[step.name].set()

    async def _ask(self, program: Program, step: Step, calls: Calls) -> None:
        headers = calls.headers(step) | {"x-weft-explain": "1"}
        chunks: list[bytes] = []
        sent_s = self._now_s()
        async with self._session.post(self._url + calls.path, json=calls.body(step), headers=headers) as response:
            chunks.append(await response.content.readany())
            first_s = self._now_s()
            chunks += [chunk async for chunk in response.content.iter_any()]
            ended_s = self._now_s()
        assert response.status == 200, chunks[0]
        usage, answer = read_answer(b"".join(chunks))
        assert len(answer) == step.output_tokens, (program.id, step.name, len(answer), step.output_tokens)
        calls.answered(step, answer)
        explained = json.loads(response.headers["x-weft-explain"])
        winner = next(each for each in explained["candidates"] if each["replica"] == explained["winner"])
        queue = explained.get("queue") or {}
        self.served.calls.append(
            Call(
                program=program.id,
                step=step.name,
                replica=explained["winner"],
                prompt_tokens=usage["prompt_tokens"],
                cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
                predicted_tokens=winner["cached_tokens"],
                queued_s=queue.get("waited_s", 0.0),
                waited_for=queue.get("waited_for") or "",
                priority=queue.get("priority"),
                sent_s=sent_s,
                first_s=first_s,
                ended_s=ended_s,
            )
        )

    def _now_s(self) -> float:
        return time.perf_counter() - self._began_s
