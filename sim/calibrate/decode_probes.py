"""Times of decode steps, over the number of sequences and the length of their contexts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median

from sim.calibrate.client import Answer, Client
from sim.calibrate.limits import Limits
from sim.calibrate.observation import Kind, Observation, decode_step

SEQS = (1, 4, 16, 32)
STEPS = 24
"""That are measured, more or less, while all sequences decode."""
PARTS = 4
"""The steps are measured in so many parts: the median of them is little moved by one hiccup."""
SHORT_TOKENS = 32
LONG_TOKENS = 8192
PREFILL_PATIENCE_S = 6.0
"""Contexts are chosen so that computing them takes no longer than this."""

Report = Callable[[Observation], None]


async def probe_decode(
    client: Client, limits: Limits, *, prefill_tokens_per_s: float, report: Report
) -> list[Observation]:
    """Each number of sequences with short and with long contexts, all of them different."""
    found: list[Observation] = []
    affordable_tokens = int(prefill_tokens_per_s * PREFILL_PATIENCE_S)
    for seqs in (seqs for seqs in SEQS if seqs <= limits.values["max_num_seqs"]):
        for context in (SHORT_TOKENS, min(LONG_TOKENS, affordable_tokens // seqs)):
            observation = await _probe(client, limits, seqs, context)
            if observation is not None:
                found.append(observation)
                report(observation)
    return found


async def _probe(client: Client, limits: Limits, seqs: int, context: int) -> Observation | None:
    """None: contexts of this kind do not fit, or the sequences hardly ever decode all at once."""
    room_tokens = min(limits.cache_tokens // seqs, limits.values["max_model_len_tokens"])
    for output in (STEPS * 2, STEPS * 4, STEPS * 8):
        prompt = min(context, room_tokens - output - limits.values["block_size_tokens"])
        if prompt < 1 or (context > SHORT_TOKENS and prompt < 4 * SHORT_TOKENS):
            return None
        answers = await client.complete_all([client.fresh_prompt(prompt) for _ in range(seqs)], output)
        observation = _observation(answers, prompt)
        if observation is not None:
            return observation
    return None


def _observation(answers: list[Answer], prompt_tokens: int) -> Observation | None:
    """The time of one step while all sequences decode; None when they hardly did so together."""
    began_s = max(answer.tokens_s[0] for answer in answers)
    ended_s = min(answer.tokens_s[-1] for answer in answers)
    own_s = [at_s for at_s in answers[0].tokens_s if began_s <= at_s <= ended_s]
    if len(own_s) <= STEPS // 2:
        return None
    times_s = _step_times(own_s)
    middle_s = (began_s + ended_s) / 2
    generated = [sum(at_s <= middle_s for at_s in answer.tokens_s) for answer in answers]
    work = decode_step([prompt_tokens + tokens - 1 for tokens in generated])
    what = f"{len(answers)} of {work.context_tokens // len(answers):,} tokens"
    spread = (max(times_s) - min(times_s)) / median(times_s)
    return Observation(Kind.DECODE, what, median(times_s), spread, 1, work)


def _step_times(arrivals_s: list[float]) -> list[float]:
    """Mean time between tokens in each part of the stretch. Tokens may arrive several at once; parts even that out."""
    gaps = len(arrivals_s) - 1
    bounds = [round(part * gaps / PARTS) for part in range(PARTS + 1)]
    return [(arrivals_s[end] - arrivals_s[start]) / (end - start) for start, end in pairwise(bounds)]
