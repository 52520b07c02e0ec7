"""Runs programs against a base URL over real HTTP, as an agent framework would, and measures each call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import msgspec

from sim.demo.measure import Call
from sim.demo.workload import Program, Stage, Turn

ANSWER_TIMEOUT_S = 60.0
"""Silence on a stream after which its call counts as failed."""

Message = dict[str, str]


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(_Chunk)


class CallFailedError(Exception):
    """The server did not give a whole answer. The message is what it said or did instead."""


class Client:
    """Sends chat completions for one model through one base URL."""

    def __init__(self, http: aiohttp.ClientSession, url: str, model: str) -> None:
        self._http = http
        self._url = f"{url}/v1/chat/completions"
        self._model = model

    async def run(self, programs: Sequence[Program], on_call: Callable[[Call], None]) -> None:
        """Start each program at its time and wait for all. ``on_call`` gets each call as it ends."""
        async with asyncio.TaskGroup() as group:
            for program in programs:
                group.create_task(self._run_program(program, on_call))

    async def _run_program(self, program: Program, on_call: Callable[[Call], None]) -> None:
        """Stages in order. A program whose call fails ends there, as an agent would."""
        conversation: list[Message] = [{"role": "system", "content": program.system}]
        await asyncio.sleep(program.start_s)
        for stage in program.stages:
            await asyncio.sleep(stage.wait_s)
            calls = await asyncio.gather(
                *(self._reported(conversation, program.tools, turn, on_call) for turn in stage.turns)
            )
            if any(call.error for call in calls):
                return
            conversation += _best_exchange(stage, calls)

    async def _reported(
        self,
        conversation: list[Message],
        tools: Sequence[dict[str, Any]],
        turn: Turn,
        on_call: Callable[[Call], None],
    ) -> Call:
        call = await self.chat([*conversation, _user(turn)], tools, turn.output_tokens)
        on_call(call)
        return call

    async def chat(self, messages: list[Message], tools: Sequence[dict[str, Any]], output_tokens: int) -> Call:
        """One streamed chat completion of exactly ``output_tokens``. What goes wrong is in ``Call.error``."""
        body = {
            "model": self._model,
            "messages": messages,
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if tools:
            body["tools"] = list(tools)
        try:
            return await self._stream(msgspec.json.encode(body))
        except (CallFailedError, aiohttp.ClientError, TimeoutError, ValueError, msgspec.DecodeError) as error:
            return Call(error=str(error) or type(error).__name__)

    async def _stream(self, body: bytes) -> Call:
        sent_s = time.perf_counter()
        ttft_s = None
        pieces: list[str] = []
        usage = None
        headers = {"content-type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=ANSWER_TIMEOUT_S)
        async with self._http.post(self._url, data=body, headers=headers, timeout=timeout) as response:
            if response.status != 200:
                raise CallFailedError(f"HTTP {response.status}: {(await response.text())[:300]}")
            replica = response.headers.get("x-weft-replica", "")
            async for line in response.content:
                if not line.startswith(b"data:"):
                    continue
                if line.startswith(b"data: [DONE]"):
                    break
                chunk = _chunks.decode(line[5:])
                if chunk.error is not None:
                    raise CallFailedError(f"error in the stream: {str(chunk.error)[:300]}")
                for choice in chunk.choices:
                    if choice.finish_reason == "abort":
                        raise CallFailedError("the replica aborted the request")
                    if choice.delta.content:
                        ttft_s = ttft_s or time.perf_counter() - sent_s
                        pieces.append(choice.delta.content)
                usage = chunk.usage or usage
            else:
                raise CallFailedError("the stream ended before [DONE]")
        if ttft_s is None or usage is None:
            raise CallFailedError("the stream had no text or no usage")
        return Call(
            replica=replica,
            ttft_s=ttft_s,
            e2e_s=time.perf_counter() - sent_s,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0,
            answer="".join(pieces),
        )


def _user(turn: Turn) -> Message:
    return {"role": "user", "content": turn.text}


def _best_exchange(stage: Stage, calls: Sequence[Call]) -> list[Message]:
    """What the conversation keeps of a stage."""
    return [_user(stage.turns[stage.best]), {"role": "assistant", "content": calls[stage.best].answer}]
