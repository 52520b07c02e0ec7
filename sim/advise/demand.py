"""How many replicas the prompts and the answers of a workload keep busy, if each had replicas of its own.

Prompts: their new tokens, each prefix computed once, in steps that no two prompts share. Answers: in batches as large
as the KV memory holds, but no larger than lets a step take as long as a token may.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.engine import EngineConfig, TransferModel
from sim.engine.step_time import PS_PER_S
from sim.workloads.offered import OfferedWork


@dataclass(slots=True, frozen=True)
class Demand:
    prefill: float
    """Replicas kept busy."""
    decode: float
    batch: float
    """Answers that a decode replica can give at once."""
    kv_bytes_per_s: float
    """From all prefill replicas together, if decode replicas hold what they have seen of a prompt."""


def demand(
    work: OfferedWork, duration_s: float, engine: EngineConfig, transfer: TransferModel, tpot_s: float
) -> Demand:
    """Of ``work`` when it arrives within ``duration_s`` and a token may take ``tpot_s``."""
    times = engine.step_time
    prefill_ps = times.duration_ps(work.prefill) + (work.prefill_steps - 1) * times.fixed_ps
    batch = batch_within(work, engine, tpot_s)
    decode_ps = times.duration_ps(work.decode) + (work.decode.decode_seqs / batch - 1) * times.fixed_ps
    return Demand(
        prefill=prefill_ps / PS_PER_S / duration_s,
        decode=max(decode_ps, 0.0) / PS_PER_S / duration_s,
        batch=batch,
        kv_bytes_per_s=work.prefill_tokens * transfer.bytes_per_token / duration_s,
    )


def batch_within(work: OfferedWork, engine: EngineConfig, tpot_s: float) -> float:
    """Sequences of the workload's mean length that fit in memory and in a step of ``tpot_s``; one at least."""
    times, tokens = engine.step_time, engine.usable_blocks * engine.block_size_tokens
    decoded = max(work.decode.decode_seqs, 1)
    sequence_ps = times.decode_seq_ps + work.decode.context_tokens / decoded * times.context_token_ps
    in_time = (tpot_s * PS_PER_S - times.fixed_ps) / sequence_ps if sequence_ps else float("inf")
    return max(1.0, min(engine.max_num_seqs, tokens / work.held_tokens, in_time))
