"""Finds max_num_batched_tokens of a server that does not tell it.

While one request decodes, a long prompt is prefilled beside it. Each of the prompt's steps also gives the first request
a token, but takes longer than a step of decoding alone. So the long gaps between tokens count the steps, and with one
token of each step's budget spent on decoding, ``steps - 1 < prompt_tokens / (budget - 1) <= steps``. The prompt's last
step may be too short to be told from decoding, so that there may be one step more than long gaps.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from sim.calibrate.client import Client

BEFORE_TOKENS = 8
"""That the first request decodes alone."""
LONG = 2.0
"""A gap this many times as long as one of decoding alone holds prefill."""


class Range(NamedTuple):
    lowest: int
    highest: int | None
    """None: the prompt was computed in one step."""

    def settle(self, usual: int) -> int | None:
        """``usual`` if it lies within, else the power of two that does; None when none or several do."""
        if self.lowest <= usual and (self.highest is None or usual <= self.highest):
            return usual
        if self.highest is None:
            return None
        powers = [1 << n for n in range(5, 22) if self.lowest <= 1 << n <= self.highest]
        return powers[0] if len(powers) == 1 else None


async def find_batch_limit(client: Client, prompt_tokens: int) -> Range:
    """Takes two requests, of which the long one is cold."""
    decoding = asyncio.create_task(client.complete(client.fresh_prompt(16), BEFORE_TOKENS + 64))
    try:
        await client.complete(client.fresh_prompt(prompt_tokens), 1)
        tokens_s = (await decoding).tokens_s
    finally:
        decoding.cancel()
    return read_gaps([later - earlier for earlier, later in pairwise(tokens_s)], prompt_tokens)


def read_gaps(gaps_s: list[float], prompt_tokens: int) -> Range:
    alone_s = median(gaps_s)
    seen = max(1, sum(gap_s > LONG * alone_s for gap_s in gaps_s))
    lowest = -(-prompt_tokens // (seen + 1)) + 1
    return Range(lowest, (prompt_tokens - 1) // (seen - 1) + 1 if seen > 1 else None)
