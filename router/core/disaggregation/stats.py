"""Counters of disaggregation since the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Fallback(StrEnum):
    """Why a decode replica computed a prompt itself, other than by the rule."""

    NO_PREFILL_REPLICA = "no_prefill_replica"
    """None is healthy and may serve the request."""
    NO_DECODE_REPLICA = "no_decode_replica"
    """Only replicas that prefill are left: one of them serves the request alone."""
    PREFILL_FAILED = "prefill_failed"
    """The request had been sent to prefill replicas, and they failed."""
    NOT_HANDED_OVER = "not_handed_over"
    """The request could not be split, or the decode replica not go on from what the prefill replica left."""


@dataclass(slots=True)
class DisaggregationStats:
    disaggregated: int = 0
    """Requests sent to a prefill replica first."""
    aggregated: int = 0
    """Requests sent to one replica alone, in a fleet whose replicas have roles; fallbacks at once are among them."""
    fallbacks: dict[Fallback, int] = field(default_factory=lambda: dict.fromkeys(Fallback, 0))
    prefills_failed: int = 0
    """Prefill legs that did not end well."""
    prefill_tokens: int = 0
    """Prompt tokens that prefill legs were to compute."""
    fetched_tokens: int = 0
    """Prompt tokens that decode replicas were to take over."""
