"""Dynamo's ``agentic_mooncake`` traces: lengths and block ids of requests, and which requests each waits for.

Two versions are read, after ai-dynamo/dynamo's documentation and row types:

- rows with ``request_id``, ``session_id``, ``wait_for``, ``delay`` and ``tool_wait_ms`` (both waited for, in ms, once
  all of ``wait_for`` have ended), and ``timestamp`` (ms) for those that wait for nothing;
- after a header row with ``block_size``, rows with ``play_id``, ``not_before_ms`` and ``dependencies``, each with a
  ``delay_ms`` of its own and a ``trigger``: the request named has ended (``completion``) or was sent (``dispatch``).

Requests of one play, or linked by session or wait, are one program; its sessions after the first are sub-agents. When
dependencies have different delays, the longest is waited after the last of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from math import log2
from pathlib import Path

import msgspec

from sim.workloads.program import Context, Part, Program, Step
from sim.workloads.traces.blocks import block_parts
from sim.workloads.traces.graph import groups, sendable_order
from sim.workloads.traces.lines import BlockId, Time, Tokens, Trace, read_rows


class _Dependency(msgspec.Struct):
    request_id: str
    trigger: str = "completion"
    delay_ms: Time = 0.0


class _Row(msgspec.Struct, kw_only=True):
    """A request, or the header if there is no ``request_id``."""

    request_id: str = ""
    block_size: int | None = None
    hash_id_scope: str = "global"
    play_id: str | None = None
    session_id: str | None = None
    input_length: Tokens | None = None
    input_tokens: Tokens | None = None
    output_length: Tokens | None = None
    output_tokens: Tokens | None = None
    hash_ids: list[BlockId] | None = None
    timestamp: Time | None = None
    created_time: Time | None = None
    not_before_ms: Time | None = None
    delay: Time | None = None
    delay_ms: Time | None = None
    tool_wait_ms: Time | None = None
    wait_for: list[str] = []
    dependencies: list[_Dependency] = []

    @property
    def prompt_tokens(self) -> int:
        return self.input_length or self.input_tokens or 0

    @property
    def start_ms(self) -> float:
        return self.timestamp or self.created_time or self.not_before_ms or 0.0

    @property
    def wait_ms(self) -> float:
        return (self.delay or self.delay_ms or 0.0) + (self.tool_wait_ms or 0.0)

    @property
    def waits_for(self) -> list[str]:
        return [*self.wait_for, *(each.request_id for each in self.dependencies)]


def load_agentic_mooncake(path: Path, seed: int, block_size_tokens: int | None = None) -> Trace:
    """Read a trace. The block size is that of the header or, where there is none, the power of two nearest to what the
    longest prompt says. ``seed`` changes nothing, as nothing is drawn."""
    trace = Trace()
    rows: dict[str, _Row] = {}
    local_ids = False
    for row in read_rows(path, _Row, trace.skipped):
        if not row.request_id:
            if row.block_size is None or row.block_size < 1:
                trace.skipped["row without a request_id"] += 1
            else:
                block_size_tokens = block_size_tokens or row.block_size
                local_ids = row.hash_id_scope == "local"
        elif row.request_id in rows:
            trace.skipped["request_id for the second time"] += 1
        elif not row.prompt_tokens:
            trace.skipped["request without a prompt"] += 1
        else:
            rows[row.request_id] = row
    order = sendable_order({name: row.waits_for for name, row in rows.items()})
    if lost := len(rows) - len(order):
        trace.skipped["request that waits for one that never ends"] += lost
    reader = _Reader(rows, block_size_tokens or _guessed_block_size(rows.values()), local_ids)
    trace.programs += reader.programs(order)
    return trace


@dataclass(slots=True)
class _Reader:
    rows: dict[str, _Row]
    block_size_tokens: int
    local_ids: bool

    def programs(self, order: list[str]) -> list[Program]:
        members: defaultdict[str, list[str]] = defaultdict(list)
        leaders = groups(self._links(order))
        for name in order:
            members[leaders[name]].append(name)
        streams = count(1)
        made = [self._program(names, streams) for names in members.values()]
        made.sort(key=lambda program: program.arrival_s)
        start_s = made[0].arrival_s if made else 0.0
        return [replace(each, arrival_s=each.arrival_s - start_s) for each in made]

    def _links(self, order: list[str]) -> dict[str, list[str]]:
        links: dict[str, list[str]] = {}
        firsts: dict[tuple[str, str], str] = {}
        for name in order:
            row = self.rows[name]
            key = ("play", row.play_id) if row.play_id else ("session", row.session_id or name)
            links[name] = [firsts.setdefault(key, name), *row.waits_for]
        return links

    def _program(self, names: list[str], streams: Iterator[int]) -> Program:
        rows = [self.rows[name] for name in names]
        start_ms = min(row.start_ms for row in rows if not row.waits_for)
        ids_stream = next(streams) if self.local_ids else 0
        steps: dict[str, Step] = {}
        for row in rows:
            after, wait_s = _timing(row, steps, start_ms)
            steps[row.request_id] = Step(
                name=row.request_id,
                parts=self._parts(row, ids_stream, tail_stream=next(streams)),
                output_tokens=max(1, row.output_length or row.output_tokens or 1),
                answer_stream=next(streams),
                after=after,
                wait_s=wait_s,
                agent=(row.session_id or "") if row.session_id != rows[0].session_id else "",
            )
        first = rows[0]
        name = first.play_id or first.session_id or first.request_id
        return Program(name, "agentic_mooncake", start_ms / 1000, tuple(steps.values()))

    def _parts(self, row: _Row, ids_stream: int, tail_stream: int) -> tuple[Part, ...]:
        ids = row.hash_ids or []
        return block_parts(ids, self.block_size_tokens, row.prompt_tokens, Context.USER, ids_stream, tail_stream)


def _timing(row: _Row, steps: dict[str, Step], start_ms: float) -> tuple[tuple[str, ...], float]:
    """What a request follows, and how long it waits then, in seconds."""
    if not row.waits_for:
        return (), (row.start_ms - start_ms) / 1000
    after, waits_s = list(row.wait_for), [row.wait_ms / 1000]
    for each in row.dependencies:
        if each.trigger == "dispatch":
            sent = steps[each.request_id]
            after += sent.after
            waits_s.append(sent.wait_s + each.delay_ms / 1000)
        else:
            after.append(each.request_id)
            waits_s.append(each.delay_ms / 1000)
    return tuple(dict.fromkeys(after)), max(waits_s)


def _guessed_block_size(rows: Iterable[_Row]) -> int:
    blocks, prompt_tokens = max(((len(row.hash_ids or ()), row.prompt_tokens) for row in rows), default=(0, 0))
    return 2 ** max(0, round(log2(prompt_tokens / blocks))) if blocks else 1
