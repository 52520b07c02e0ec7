"""What one replica is configured with. The fields are vLLM's flags of the same names."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from sim.engine.frontend import Frontend
from sim.engine.step_time import StepTime


class KvLoadFailurePolicy(StrEnum):
    """vLLM's ``kv_load_failure_policy``: what becomes of a request whose KV blocks cannot be fetched."""

    RECOMPUTE = "recompute"
    FAIL = "fail"


class Policy(StrEnum):
    """vLLM's ``--scheduling-policy``."""

    FCFS = "fcfs"
    PRIORITY = "priority"


@dataclass(slots=True, frozen=True)
class EngineConfig:
    step_time: StepTime
    num_blocks: int
    """KV blocks, the null block included: one fewer can hold tokens."""
    block_size_tokens: int = 16
    max_num_batched_tokens: int = 8192
    """Tokens that one step computes at most, over all requests."""
    max_num_seqs: int = 1024
    max_model_len_tokens: int = 131_072
    policy: Policy = Policy.FCFS
    frontend: Frontend = field(default_factory=Frontend)
    """Before a request is in the engine: whoever drives the engine waits that long before ``Engine.submit``."""
    kv_load_failure_policy: KvLoadFailurePolicy = KvLoadFailurePolicy.FAIL
    kv_lease_duration_s: float = 30.0
    """How long blocks are kept for another replica that does not fetch them."""

    def __post_init__(self) -> None:
        if self.block_size_tokens < 1 or self.max_num_seqs < 1 or self.max_num_batched_tokens < 1:
            raise ValueError("block_size_tokens, max_num_seqs and max_num_batched_tokens must be at least 1")
        if self.max_model_len_tokens < 2:
            raise ValueError("max_model_len_tokens must leave room for a prompt token and an output token")
        if self.usable_blocks * self.block_size_tokens < self.max_model_len_tokens:
            raise ValueError(
                f"a request of max_model_len_tokens={self.max_model_len_tokens} does not fit in "
                f"{self.usable_blocks} blocks of {self.block_size_tokens} tokens: "
                "raise num_blocks or lower max_model_len_tokens"
            )

    @property
    def usable_blocks(self) -> int:
        return self.num_blocks - 1
