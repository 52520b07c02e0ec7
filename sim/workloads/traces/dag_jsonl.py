"""AIPerf's ``dag_jsonl`` conversations, after ai-dynamo/aiperf's documentation: sessions whose turns start others.

A line is ``{"session_id", "turns": [{"messages", "max_tokens", "tools", "delay" ms, "forks", "spawns"}]}``. A turn's
messages are appended to those before and their answers. When it ends, sessions in ``forks`` go on from its context, and
the session itself ends unless the fork is in the background; sessions in ``spawns`` start empty, and the turn
``join_at`` (the next one if not given) waits for them. A session that nothing starts is a program; what it starts,
directly or not, are its sub-agents. Equal messages are equal tokens, one for four characters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec

from sim.workloads.program import Context, Part, Program, Step
from sim.workloads.traces.lines import Time, Tokens, Trace, read_rows

CHARS_PER_TOKEN = 4
DEFAULT_OUTPUT_TOKENS = 256
"""Where ``max_tokens`` is left to the model. Chosen; close to the median answer of 710 Claude Code programs, 216."""
MAX_DEPTH = 100
WHOLE_CONTEXT = "message_array_with_responses"
"""Context mode in which each turn brings its whole prompt."""

_NOTHING = msgspec.Raw(b"")

_CONTEXTS = {
    "system": Context.SYSTEM,
    "developer": Context.SYSTEM,
    "assistant": Context.ANSWER,
    "tool": Context.TOOL_RESULT,
}


class _Fork(msgspec.Struct):
    child: str
    background: bool = False


class _Spawn(msgspec.Struct):
    children: list[str]
    join_at: int | None = None


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = _NOTHING
    tool_calls: msgspec.Raw = _NOTHING

    @property
    def text(self) -> str:
        content = bytes(self.content)
        written = msgspec.json.decode(content, type=str) if content.startswith(b'"') else content.decode()
        return written + bytes(self.tool_calls).decode()


class _Turn(msgspec.Struct):
    messages: list[_Message]
    max_tokens: Tokens | None = None
    tools: msgspec.Raw = _NOTHING
    forks: list[str | _Fork] = []
    spawns: list[str | _Spawn] = []
    delay: Time = 0.0


class _Session(msgspec.Struct):
    session_id: str
    turns: list[_Turn] = []
    context_mode: str | None = None

    @property
    def children(self) -> Iterator[str]:
        for turn in self.turns:
            for fork in turn.forks:
                yield fork if isinstance(fork, str) else fork.child
            for spawn in turn.spawns:
                yield from [spawn] if isinstance(spawn, str) else spawn.children


def load_dag_jsonl(path: Path, seed: int) -> Trace:
    """Read a file. All programs arrive at 0; ``seed`` changes nothing, as nothing is drawn."""
    trace = Trace()
    sessions: dict[str, _Session] = {}
    for row in read_rows(path, _Session, trace.skipped):
        if not row.turns:
            trace.skipped["session without turns"] += 1
        elif row.session_id in sessions:
            trace.skipped["session_id for the second time"] += 1
        else:
            sessions[row.session_id] = row
    started = {child for session in sessions.values() for child in session.children}
    texts = _Texts()
    waiting = dict(sessions)
    for name in sessions:
        if name not in started:
            reader = _Reader(waiting, texts, trace.skipped)
            reader.read(name, "", (), _Start((), 0.0), 0)
            if reader.steps:
                trace.programs.append(Program(name, "dag_jsonl", 0.0, tuple(reader.steps)))
    if waiting:
        trace.skipped["session that no other starts in the end"] += len(waiting)
    return trace


@dataclass(slots=True)
class _Texts:
    """Streams of messages: equal messages, equal streams."""

    streams: Iterator[int] = field(default_factory=count)
    _known: dict[tuple[str, str], Part] = field(default_factory=dict)

    def part(self, context: Context, text: str) -> Part:
        key = (context, text)
        if key not in self._known:
            self._known[key] = Part(context, next(self.streams), max(1, len(text) // CHARS_PER_TOKEN))
        return self._known[key]

    def of_turn(self, turn: _Turn) -> tuple[Part, ...]:
        tools = bytes(turn.tools).decode()
        messages = (self.part(_CONTEXTS.get(each.role, Context.USER), each.text) for each in turn.messages)
        return (*([self.part(Context.TOOLS, tools)] if tools else []), *messages)


@dataclass(slots=True, frozen=True)
class _Start:
    after: tuple[str, ...]
    wait_s: float


@dataclass(slots=True)
class _Reader:
    """Writes the steps of one program. Sessions leave ``waiting`` as they are started, so each is started once."""

    waiting: dict[str, _Session]
    texts: _Texts
    skipped: Counter[str]
    steps: list[Step] = field(default_factory=list)

    def read(self, name: str, agent: str, parts: tuple[Part, ...], start: _Start, depth: int) -> tuple[str, ...]:
        """Append the steps of a session and of those that it starts. Returns the steps it has ended with."""
        session = self.waiting.pop(name, None)
        if session is None or depth > MAX_DEPTH:
            self.skipped["start of a session that is not there, for the second time or too deep"] += 1
            return ()
        joins: defaultdict[int, list[str]] = defaultdict(list)
        after = start.after
        for index, turn in enumerate(session.turns):
            step = f"{name}.turn-{index}"
            heard = self.texts.of_turn(turn)
            parts = heard if session.context_mode == WHOLE_CONTEXT else parts + heard
            if not parts:
                self.skipped["turn without a prompt"] += 1
                continue
            waits_for = tuple(dict.fromkeys((*after, *joins.pop(index, ()))))
            wait_s = turn.delay / 1000 + (start.wait_s if index == 0 else 0.0)
            answer = Part(Context.ANSWER, next(self.texts.streams), turn.max_tokens or DEFAULT_OUTPUT_TOKENS)
            self.steps.append(Step(step, parts, answer.tokens, answer.stream, waits_for, wait_s, agent))
            parts, after = (*parts, answer), (step,)
            for spawn in turn.spawns:
                children, join_at = _spawned(spawn, index)
                for child in children:
                    joins[join_at] += self.read(child, child, (), _Start(after, 0.0), depth + 1)
            ends: list[str] = []
            for fork in turn.forks:
                child, background = (fork, False) if isinstance(fork, str) else (fork.child, fork.background)
                last = self.read(child, child, parts, _Start(after, 0.0), depth + 1)
                ends += () if background else last
            if ends:
                return tuple(ends)
        return after


def _spawned(spawn: str | _Spawn, index: int) -> tuple[list[str], int]:
    if isinstance(spawn, str):
        return [spawn], index + 1
    return spawn.children, index + 1 if spawn.join_at is None else spawn.join_at
