"""Sessions recorded with their text: ``{"timestamp": us, "input", "output", "session_id"}``, each input in full.

Two prompts share what their texts have in common, in blocks of 16 tokens. Without a tokenizer four characters make a
token. The recordings hold no answers in later prompts and no durations: of the time between two calls of a session,
what an answer takes at 58 tokens a second (the median of 710 Claude Code programs) is not waited.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import msgspec

from sim.workloads.program import Context, Part, Program, Step
from sim.workloads.traces.blocks import BlockIds, block_parts
from sim.workloads.traces.lines import Time, Trace, read_rows

Tokenize = Callable[[str], Sequence[int]]

BLOCK_SIZE_TOKENS = 16
CHARS_PER_TOKEN = 4
DECODE_TOKENS_PER_S = 58.0


class _Row(msgspec.Struct):
    timestamp: Time
    input: str
    output: str
    session_id: str


def load_text(path: Path, seed: int, tokenize: Tokenize | None = None) -> Trace:
    """Read a trace. Programs arrive as recorded, the first at 0; ``seed`` changes nothing, as nothing is drawn."""
    trace = Trace()
    sessions: defaultdict[str, list[_Row]] = defaultdict(list)
    for row in read_rows(path, _Row, trace.skipped):
        if row.input:
            sessions[row.session_id].append(row)
        else:
            trace.skipped["call without a prompt"] += 1
    reader = _Reader(tokenize)
    for calls in sessions.values():
        calls.sort(key=lambda row: row.timestamp)
    ordered = sorted(sessions.items(), key=lambda session: session[1][0].timestamp)
    for name, calls in ordered:
        arrival_s = (calls[0].timestamp - ordered[0][1][0].timestamp) / 1e6
        trace.programs.append(Program(name, path.name.split(".")[0], arrival_s, tuple(reader.steps(calls))))
    return trace


class _Reader:
    def __init__(self, tokenize: Tokenize | None) -> None:
        self._tokenize = tokenize
        self._ids = BlockIds(BLOCK_SIZE_TOKENS * (1 if tokenize else CHARS_PER_TOKEN))
        self._streams = count(1)

    def steps(self, calls: list[_Row]) -> Iterator[Step]:
        after: tuple[str, ...] = ()
        end_s = calls[0].timestamp / 1e6
        for number, call in enumerate(calls):
            name, start_s = f"call-{number}", call.timestamp / 1e6
            output_tokens = self._tokens(call.output)
            yield Step(
                name, self._parts(call.input), output_tokens, next(self._streams), after, max(0.0, start_s - end_s)
            )  # fmt: skip
            after, end_s = (name,), start_s + output_tokens / DECODE_TOKENS_PER_S

    def _parts(self, text: str) -> tuple[Part, ...]:
        symbols = tuple(self._tokenize(text)) if self._tokenize else text
        prompt_tokens = max(1, len(symbols) // (1 if self._tokenize else CHARS_PER_TOKEN))
        ids = self._ids.of(symbols)
        return block_parts(ids, BLOCK_SIZE_TOKENS, prompt_tokens, Context.USER, 0, tail_stream=next(self._streams))

    def _tokens(self, text: str) -> int:
        return max(1, len(self._tokenize(text)) if self._tokenize else len(text) // CHARS_PER_TOKEN)
