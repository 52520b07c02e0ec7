"""Calibrates one replica: asks it what it is, probes it, fits the engine model to the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import aiohttp

from sim.calibrate.client import Client
from sim.calibrate.decode_probes import probe_decode
from sim.calibrate.errors import CalibrationError
from sim.calibrate.facts import Facts, ask_busy, ask_facts
from sim.calibrate.fit import Fit, fit
from sim.calibrate.limits import Limits, learn_batch_limit, learn_max_num_seqs, start_with
from sim.calibrate.observation import Observation
from sim.calibrate.prefill_probes import LENGTHS_TOKENS, probe_prefill
from sim.engine import EngineConfig

WARM_UP_TOKENS = 512
BATCH_LIMIT_PATIENCE_S = 8.0
"""The prompt that shows max_num_batched_tokens is chosen to take no longer than this."""
NOISY = 0.25
"""Tries of one probe that are apart by more than this share of their median are noisy."""

Say = Callable[[str], None]


@dataclass(slots=True)
class Calibration:
    model: str
    engine: EngineConfig
    fit: Fit
    observations: list[Observation]
    origins: dict[str, str]
    """How each limit in ``engine`` is known."""
    warnings: list[str] = field(default_factory=list)


async def calibrate(
    session: aiohttp.ClientSession, url: str, base: EngineConfig, *, model: str | None, seed: int | None, say: Say
) -> Calibration:
    """Takes about a minute of the replica's time. Raises CalibrationError."""
    facts = await ask_facts(session, url, model)
    say(f"{facts.model} at {url}")
    warnings: list[str] = []
    await _mind_others(session, url, "before the first probe", warnings)
    limits = start_with(base, facts)
    client = Client(session, url, facts.model, seed)
    observations = await _observe(client, facts, limits, session, url, say)
    await _mind_others(session, url, "after the last probe", warnings)
    if not facts.caches_prefixes:
        warnings.append("prefix caching is off in the server, but the engine model always caches")
    noisy = sum(one.spread > NOISY for one in observations)
    if noisy * 4 > len(observations):
        warnings.append(f"{noisy} of {len(observations)} probes were noisy: their tries are over {NOISY:.0%} apart")
    try:
        fitted = fit(observations)
    except ValueError as error:
        raise CalibrationError(f"{error}: the server's longest prompt or its cache is too small") from error
    engine = EngineConfig(fitted.step_time, frontend=fitted.frontend, policy=base.policy, **limits.values)
    return Calibration(facts.model, engine, fitted, observations, limits.origins, warnings)


async def _mind_others(session: aiohttp.ClientSession, url: str, when: str, warnings: list[str]) -> None:
    busy = await ask_busy(session, url)
    if busy.requests:
        warnings.append(
            f"the replica was busy {when}: {busy.running} running, {busy.waiting} waiting requests of others"
        )


async def _observe(
    client: Client, facts: Facts, limits: Limits, session: aiohttp.ClientSession, url: str, say: Say
) -> list[Observation]:
    longest_tokens = limits.values["max_model_len_tokens"] - 1
    tokens_per_s = await _warm_up(client, min(WARM_UP_TOKENS, longest_tokens - 1))
    if facts.max_num_batched_tokens is None:
        affordable_tokens = int(tokens_per_s * BATCH_LIMIT_PATIENCE_S)
        await learn_batch_limit(client, limits, min(longest_tokens, LENGTHS_TOKENS[-1], affordable_tokens))
    if facts.max_num_seqs is None:
        await learn_max_num_seqs(client, limits, session, url)

    def report(one: Observation) -> None:
        say(f"  {one.kind:<14}{one.what:<32}{one.duration_s * 1e3:>10.2f} ms  ± {one.spread / 2:.0%}")

    observations = await probe_prefill(client, limits, caches_prefixes=facts.caches_prefixes, report=report)
    observations += await probe_decode(client, limits, prefill_tokens_per_s=tokens_per_s, report=report)
    return observations


async def _warm_up(client: Client, tokens: int) -> float:
    """Requests that do not count: first ones compile kernels and open connections. Prompt tokens per second."""
    times_s = [(await client.complete(client.fresh_prompt(tokens), 2)).ttft_s for _ in range(3)]
    return tokens / median(times_s)
