"""Programs of the simulator's workloads, sent to a real server: at their times, each call after those it follows."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random

import aiohttp

from sim.workloads.program import Part, Program, Step

_TOKEN_IDS = range(100, 3000)


@dataclass(slots=True)
class Served:
    """One call as its client saw it."""

    prompt_tokens: int
    cached_tokens: int
    ttft_s: float
    e2e_s: float


class Prompts:
    """Prompts of tokens. What the model really answered stands in those that repeat it."""

    def __init__(self) -> None:
        self._answers: dict[int, list[int]] = {}

    def of(self, step: Step) -> list[int]:
        return [token for part in step.parts for token in self._stream(part)[part.offset : part.offset + part.tokens]]

    def heard(self, step: Step, answer: list[int]) -> None:
        self._answers[step.answer_stream] = answer

    def _stream(self, part: Part) -> list[int]:
        """As much of the part's stream as it needs: the answer that was heard, or tokens that only its name decides."""
        answer = self._answers.get(part.stream)
        return answer or Random(part.stream).choices(_TOKEN_IDS, k=part.offset + part.tokens)


class Player:
    """Plays programs against one URL."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self.served: list[Served] = []
        self._session = session
        self._url = f"{url}/v1/completions"
        self._model = model
        self._prompts = Prompts()

    async def play(self, programs: Iterable[Program]) -> None:
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for program in programs:
                await asyncio.sleep(max(0.0, began_s + program.arrival_s - time.perf_counter()))
                ended = {step.name: asyncio.Event() for step in program.steps}
                for step in program.steps:
                    tasks.create_task(self._step(step, ended))

    async def _step(self, step: Step, ended: Mapping[str, asyncio.Event]) -> None:
        for name in step.after:
            await ended[name].wait()
        await asyncio.sleep(step.wait_s)
        await self._ask(step)
        ended[step.name].set()

    async def _ask(self, step: Step) -> None:
        body = {
            "model": self._model,
            "prompt": self._prompts.of(step),
            "max_tokens": step.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
        }
        chunks: list[bytes] = []
        sent_s = time.perf_counter()
        async with self._session.post(self._url, json=body) as response:
            chunks.append(await response.content.readany())
            first_s = time.perf_counter()
            chunks += [chunk async for chunk in response.content.iter_any()]
            ended_s = time.perf_counter()
        assert response.status == 200, chunks[0]
        usage, answer = read_answer(b"".join(chunks))
        assert len(answer) == step.output_tokens, (len(answer), step)
        self._prompts.heard(step, answer)
        cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]
        self.served.append(Served(step.prompt_tokens, cached_tokens, first_s - sent_s, ended_s - sent_s))


def read_answer(stream: bytes) -> tuple[dict, list[int]]:
    """Usage and token ids of a streamed answer."""
    usage: dict = {}
    answer: list[int] = []
    for line in stream.splitlines():
        if line.startswith(b"data: {"):
            event = json.loads(line.removeprefix(b"data: "))
            for choice in event["choices"]:
                answer += choice.get("token_ids") or ()
            usage = event.get("usage") or usage
    return usage, answer
