"""Claude Code programs (callanjfox/kv-cache-tester): one program a line, with its sub-agents.

What the format hides:

- ``hash_ids`` name blocks of 64 tokens and are local to the program. But tool definitions and system prompt
  (``tool_tokens``, ``system_tokens``) are taken to be the same text wherever they are as long: programs share them.
  What is left of a prompt beyond its last full block has no id.
- A prompt that continues the one before holds the answer in between, which the engine has computed: its blocks are laid
  on the answer's tokens. Where a prompt grew by less than the answer, the answer was changed and is not found again.
- A sub-agent's ``t`` is when it ended, and the times of its requests start at 0. It follows the request that had begun
  when it began, and the parent's next request after its end waits for it. Without ``duration_ms`` it ran in the
  background: then ``t`` is its start and nothing waits for it.
- Some requests have no ``api_time``; 58 tokens a second, the median of the others, stand in.
- Programs have no arrival times: all arrive at 0, to be spread with ``arrange``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated

import msgspec

from sim.workloads.program import Context, Part, Program, Step
from sim.workloads.traces.lines import BlockId, Time, Tokens, Trace, read_rows
from sim.workloads.traces.weka_blocks import Blocks, Prompt, SharedHeads

DECODE_TOKENS_PER_S = 58.0
MAX_WAIT_S = 600.0
COMPACTED = 0.7
"""A prompt this much shorter than the one before was compacted."""


class _Request(msgspec.Struct, kw_only=True):
    """An LLM call, or a sub-agent with calls of its own."""

    t: Time
    type: str
    prompt_tokens: Tokens = msgspec.field(name="in", default=0)
    output_tokens: Tokens = msgspec.field(name="out", default=0)
    hash_ids: tuple[BlockId, ...] = ()
    input_types: tuple[str, ...] = ()
    api_time: Time | None = None
    agent_id: str = ""
    duration_ms: Time | None = None
    tool_tokens: Tokens = 0
    system_tokens: Tokens = 0
    requests: "tuple[_Request, ...]" = ()  # noqa: UP037  (msgspec resolves it)

    @property
    def end_s(self) -> float:
        return self.t + (self.output_tokens / DECODE_TOKENS_PER_S if self.api_time is None else self.api_time)


class _Row(msgspec.Struct, kw_only=True):
    id: str
    block_size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    tool_tokens: Tokens
    system_tokens: Tokens
    requests: tuple[_Request, ...]


def load_weka(path: Path, seed: int, max_wait_s: float = MAX_WAIT_S) -> Trace:
    """Read a trace. Waits are cut to ``max_wait_s``: 610 s is the 99th percentile of tool waits, and what is longer is
    a person who went away. ``seed`` changes nothing, as nothing is drawn."""
    trace, streams = Trace(), count(1)
    heads = SharedHeads(streams)
    known: set[str] = set()
    for row in read_rows(path, _Row, trace.skipped):
        if row.id in known:
            trace.skipped["program id for the second time"] += 1
            continue
        reader = _Reader(Blocks(row.block_size, heads, next(streams)), streams, max_wait_s, trace)
        reader.read_agent(row.requests, _Start("", (), 0.0), row.tool_tokens, row.system_tokens)
        if reader.steps:
            known.add(row.id)
            trace.programs.append(Program(row.id, "weka", 0.0, tuple(reader.steps)))
        else:
            trace.skipped["program without a request"] += 1
    return trace


@dataclass(slots=True, frozen=True)
class _Start:
    """Where an agent begins."""

    agent: str
    after: tuple[str, ...]
    wait_s: float


@dataclass(slots=True, frozen=True)
class _Call:
    """A step, by the clock of its agent."""

    step: str
    start_s: float
    end_s: float


@dataclass(slots=True)
class _Reader:
    blocks: Blocks
    streams: Iterator[int]
    max_wait_s: float
    trace: Trace
    steps: list[Step] = field(default_factory=list)

    def read_agent(
        self, requests: tuple[_Request, ...], start: _Start, tools_tokens: int, system_tokens: int
    ) -> str | None:
        """Append the steps of an agent and of the sub-agents that it starts. Returns its last step."""
        calls: list[_Call] = []
        joins: list[_Call] = []
        prompt: Prompt | None = None
        for request in requests:
            if request.type == "subagent":
                joins += self._read_subagent(request, calls, start)
            elif not request.prompt_tokens:
                self.trace.skipped["request without a prompt"] += 1
            else:
                if prompt is None:
                    self.blocks.name_head(request.hash_ids, tools_tokens, system_tokens)
                prompt = self._prompt(request, prompt)
                calls.append(self._add_step(request, prompt, calls, joins, start))
                joins = []
        return calls[-1].step if calls else None

    def _read_subagent(self, request: _Request, calls: list[_Call], start: _Start) -> list[_Call]:
        """Returns its last step if the parent waits for it."""
        background = request.duration_ms is None
        start_s = request.t - (request.duration_ms or 0.0) / 1000
        spawner = next((call for call in reversed(calls) if call.start_s <= start_s), None)
        agent = f"{start.agent}.{request.agent_id}".lstrip(".")
        if spawner:
            begin = _Start(agent, (spawner.step,), self._wait_s(start_s - spawner.end_s))
        else:
            begin = _Start(agent, start.after, start.wait_s + self._wait_s(start_s))
        last = self.read_agent(request.requests, begin, request.tool_tokens, request.system_tokens)
        return [_Call(last, start_s, request.t)] if last and not background else []

    def _add_step(
        self, request: _Request, prompt: Prompt, calls: list[_Call], joins: list[_Call], start: _Start
    ) -> _Call:
        name = f"{start.agent}.call-{len(calls)}".lstrip(".")
        waited_for = [*calls[-1:], *joins]
        after = tuple(call.step for call in waited_for) if calls else (*start.after, *(call.step for call in joins))
        wait_s = self._wait_s(request.t - max(call.end_s for call in waited_for)) if waited_for else start.wait_s
        answer = prompt.answer
        self.steps.append(Step(name, prompt.parts, answer.tokens, answer.stream, after, wait_s, start.agent))
        return _Call(name, request.t, request.end_s)

    def _prompt(self, request: _Request, before: Prompt | None) -> Prompt:
        ids, context = request.hash_ids, _context(request)
        if before and before.begins(ids):
            grown_tokens = request.prompt_tokens - before.tokens
            self.blocks.lay(ids[len(before.ids) :], before.followed_by(grown_tokens), context)
        elif before and request.prompt_tokens < COMPACTED * before.tokens:
            context = Context.CHECKPOINT
        tail_tokens = max(0, request.prompt_tokens - len(ids) * self.blocks.size_tokens)
        return Prompt(
            ids=ids,
            blocks=self.blocks.parts(ids, context, before),
            tokens=request.prompt_tokens,
            tail=Part(context, next(self.streams), tail_tokens),
            answer=Part(Context.ANSWER, next(self.streams), max(1, request.output_tokens)),
        )

    def _wait_s(self, wait_s: float) -> float:
        return min(self.max_wait_s, max(0.0, wait_s))


def _context(request: _Request) -> Context:
    return Context.TOOL_RESULT if "tool_result" in request.input_types else Context.USER
