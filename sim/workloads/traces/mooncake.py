"""Mooncake's request traces (kvcache-ai/Mooncake, FAST 25): arrival, lengths and block ids of single requests.

A line is ``{"timestamp": ms, "input_length", "output_length", "hash_ids"}``, one id for each 512 tokens and one for
what is left. Each request is a program of its own: the trace names no sessions. Its timestamps are whole ticks of 3 s;
the requests of a tick are spread over it at random, in order.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise
from math import inf
from pathlib import Path
from random import Random

import msgspec

from sim.workloads.program import Context, Program, Step
from sim.workloads.traces.blocks import block_parts
from sim.workloads.traces.lines import BlockId, Time, Tokens, Trace, read_rows

BLOCK_SIZE_TOKENS = 512
BLOCKS_STREAM = 0


class _Row(msgspec.Struct):
    timestamp: Time
    input_length: Tokens
    output_length: Tokens
    hash_ids: list[BlockId]


def load_mooncake(path: Path, seed: int, tick_s: float = 3.0) -> Trace:
    """Read a trace. ``tick_s`` is how coarse its clock is; 0 keeps the timestamps as they are."""
    skipped: Counter[str] = Counter()
    rows = list(read_rows(path, _Row, skipped))
    usable = sorted((row for row in rows if row.input_length), key=lambda row: row.timestamp)
    if empty := len(rows) - len(usable):
        skipped["request without a prompt"] += empty
    arrivals_s = _spread([row.timestamp / 1000 for row in usable], tick_s, Random(f"{seed}/mooncake"))
    programs = [
        Program(f"mooncake-{number}", "mooncake", arrival_s, (_step(number, row),))
        for number, (row, arrival_s) in enumerate(zip(usable, arrivals_s, strict=True))
    ]
    return Trace(programs, skipped)


def _step(number: int, row: _Row) -> Step:
    answer_stream = 2 * number + 1
    parts = block_parts(
        row.hash_ids, BLOCK_SIZE_TOKENS, row.input_length, Context.USER, BLOCKS_STREAM, tail_stream=answer_stream + 1
    )
    return Step("request", parts, max(1, row.output_length), answer_stream)


def _spread(times_s: list[float], tick_s: float, rng: Random) -> list[float]:
    """Equal times are spread over the time to the next one, a tick at most."""
    spread: list[float] = []
    ticks = [(time_s, sum(1 for _ in ties)) for time_s, ties in groupby(times_s)]
    for (time_s, ties), (next_s, _) in pairwise([*ticks, (inf, 0)]):
        width_s = min(tick_s, next_s - time_s)
        spread += sorted(time_s + rng.uniform(0.0, width_s) for _ in range(ties))
    return spread
