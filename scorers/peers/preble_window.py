"""What one replica has been given lately, by Preble's reckoning: the load that it is under, and what room would cost.

Preble (WukLab/preble, multi_node/global_scheduler_with_time.py, commit 0c962c4) looks back 3 minutes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import NamedTuple

from router.core.types import Ticket, Usage

WINDOW_S = 180.0

_MAX_REQUESTS = 100_000
"""The oldest are forgotten before their time when a replica gets more within the window."""

_FIRST_OUTPUT_TOKENS = 45.0
_FIRST_S_PER_TOKEN = 0.15
_ANSWERS = 200


def prefill_s(tokens: float, context_tokens: float) -> float:
    """Time to compute the last ``tokens`` of a prompt of ``context_tokens``: Mistral-7B on an A6000, as Preble has it.

    WukLab/preble, multi_node/benchmarks/exp_configs/model_equations.py, commit 150e400,
    ``LP_mistral_7b_A6000_sglang_extend_flashinfer``.
    """
    return (_linear_ms(tokens) + _attention_ms(tokens, context_tokens) + _quadratic_ms(tokens)) / 0.95 / 1e3


def _linear_ms(tokens: float) -> float:
    if tokens >= 384:
        return 0.115 * tokens - 1.13
    if tokens >= 192:
        return -118.0 + 1.25 * tokens - 2.56e-3 * tokens**2
    return 22.0


def _attention_ms(tokens: float, context_tokens: float) -> float:
    if context_tokens <= 1024:
        return 0.32
    attention_ms = 1.86e-4 * context_tokens + 0.159
    return attention_ms / 2.0 if tokens <= 1024 else attention_ms


def _quadratic_ms(tokens: float) -> float:
    return -7.37 + 3.86e-3 * tokens + 2.16e-6 * tokens**2 if tokens >= 4096 else 0.0


class _Sent(NamedTuple):
    at_s: float
    missed_tokens: float
    context_tokens: float
    prefill_s: float


@dataclass(slots=True)
class Window:
    """One replica's requests of the last 3 minutes, and the answers it gave last."""

    sent: deque[_Sent] = field(default_factory=deque)
    prefill_s: float = 0.0
    """Of all in the window."""
    missed_tokens: float = 0.0
    output_tokens: deque[float] = field(default_factory=lambda: deque([_FIRST_OUTPUT_TOKENS], _ANSWERS))
    s_per_token: deque[float] = field(default_factory=lambda: deque([_FIRST_S_PER_TOKEN], _ANSWERS))
    decode_s: float = _FIRST_OUTPUT_TOKENS * _FIRST_S_PER_TOKEN
    """Of an answer of mean length."""

    def add(self, missed_tokens: float, context_tokens: float, now: float) -> None:
        self.expire(now)
        sent = _Sent(now, missed_tokens, context_tokens, prefill_s(missed_tokens, context_tokens))
        self.sent.append(sent)
        self.prefill_s += sent.prefill_s
        self.missed_tokens += missed_tokens

    def expire(self, now: float) -> None:
        """Forgets what is older than the window."""
        while self.sent and (self.sent[0].at_s < now - WINDOW_S or len(self.sent) > _MAX_REQUESTS):
            oldest = self.sent.popleft()
            self.prefill_s -= oldest.prefill_s
            self.missed_tokens -= oldest.missed_tokens
        if not self.sent:
            self.prefill_s = self.missed_tokens = 0.0  # leaves no rounding error behind

    def answered(self, ticket: Ticket, usage: Usage | None, now: float) -> None:
        tokens = usage.completion_tokens if usage is not None else None
        if not tokens or tokens < 2 or ticket.dispatched_s is None:
            return
        self.output_tokens.append(float(tokens))
        self.s_per_token.append((now - ticket.dispatched_s) / tokens)
        self.decode_s = fmean(self.output_tokens) * median(self.s_per_token)

    def load_s(self, in_flight: float) -> float:
        """Prefill of the window, and decoding of ``in_flight`` requests."""
        return self.prefill_s + in_flight * self.decode_s

    def eviction_s(self, missed_tokens: float, capacity_tokens: float) -> float:
        """Time to compute again what must go for ``missed_tokens``, least recently sent first.

        Costs nothing: what nobody used within the window, and parts that are less than half of their prompt.
        """
        tokens = min(missed_tokens, self.missed_tokens + missed_tokens - capacity_tokens)
        eviction_s = 0.0
        for sent in self.sent:
            if tokens <= 0:
                break
            tokens -= sent.missed_tokens
            if sent.missed_tokens > sent.context_tokens / 2.0:
                eviction_s += sent.prefill_s
        return eviction_s
