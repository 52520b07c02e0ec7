"""The demo's agents: each runs its program stage by stage and tells the router, with `router.client`, what it knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from router.client import Program as Run
from sim.demo.client import Client, Message
from sim.demo.measure import Call
from sim.demo.workload import Program, Stage, Turn

OnCall = Callable[[Call], None]
OnEnd = Callable[[float], None]


async def run_programs(client: Client, programs: Sequence[Program], on_call: OnCall, on_end: OnEnd) -> None:
    """Start each program at its time and wait for all. ``on_call`` gets each call as it ends, ``on_end`` the seconds
    from start to end of each program that was answered to its end."""
    async with asyncio.TaskGroup() as group:
        for program in programs:
            group.create_task(_Agent(client, program, on_call).run(on_end))


class _Agent:
    def __init__(self, client: Client, program: Program, on_call: OnCall) -> None:
        self._client = client
        self._program = program
        self._on_call = on_call
        self._run = Run(program.kind, run_id=program.name)
        self._conversation: list[Message] = [{"role": "system", "content": program.system}]
        self._sent_tokens = 0

    async def run(self, on_end: OnEnd) -> None:
        """Stages in order. A program whose call fails ends there."""
        await asyncio.sleep(self._program.start_s)
        began_s = time.perf_counter()
        stages = self._program.stages
        for stage, following in zip(stages, [*stages[1:], None], strict=True):
            if not await self._pass(stage, following):
                return
        on_end(time.perf_counter() - began_s)

    async def _pass(self, stage: Stage, following: Stage | None) -> bool:
        """Whether all calls of the stage were answered."""
        await asyncio.sleep(stage.wait_s)
        hints = [self._hints(stage, following) for _ in stage.turns]
        calls = await asyncio.gather(*map(self._call, stage.turns, hints))
        best = calls[stage.best]
        self._conversation += [_user(stage.turns[stage.best]), {"role": "assistant", "content": best.answer}]
        self._sent_tokens = best.prompt_tokens
        return not any(call.error for call in calls)

    async def _call(self, turn: Turn, hints: Mapping[str, str]) -> Call:
        messages = [*self._conversation, _user(turn)]
        call = await self._client.chat(messages, self._program.tools, turn.output_tokens, hints)
        self._on_call(replace(call, sent_tokens=self._sent_tokens))
        return call

    def _hints(self, stage: Stage, following: Stage | None) -> dict[str, str]:
        """Headers of one of the stage's calls. What follows siblings waits for all of them."""
        if following is None or len(stage.turns) == 1:
            return self._run.step(stage.name, remaining=stage.remaining, final=following is None)
        return self._run.step(stage.name, join=following.name, width=len(stage.turns), remaining=stage.remaining)


def _user(turn: Turn) -> Message:
    return {"role": "user", "content": turn.text}
