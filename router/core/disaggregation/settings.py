"""What an operator decides about disaggregation, put together for one router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.core.disaggregation.rule import Rule
from router.core.disaggregation.topology import LABELS
from router.core.scheduler import Profile


@dataclass(slots=True, frozen=True)
class Disaggregation:
    """Rule and prefill profile may keep state; they belong to one router."""

    rule: Rule
    profile: Profile
    """Picks the prefill replica."""
    among_equals: bool = False
    """Also in a fleet in which every replica's role is ``both``."""
    aggregates: bool = True
    """Decode replicas can also compute prompts themselves."""
    max_prefills: int = 2
    """Prefill replicas that are tried before the decode replica computes the prompt itself."""
    bytes_per_token: Mapping[str, int] = field(default_factory=dict)
    """Of KV blocks, by base model; ``*`` stands for all others."""
    labels: tuple[str, ...] = LABELS
    """Names of the labels that tell a replica's node, rack and zone."""
