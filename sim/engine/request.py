"""One request inside the engine model."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from router.core.types import Hashes
from sim.engine.block_pool import NO_BLOCKS, NO_HASHES
from sim.engine.kernels import Blocks


class Status(Enum):
    WAITING = auto()
    RUNNING = auto()
    PREEMPTED = auto()
    FETCHING = auto()
    """It has its blocks, and waits until the tokens in them have come from another replica."""
    FETCHED = auto()
    """They have come, or will not; it can run."""
    FINISHED = auto()
    ABORTED = auto()
    FAILED = auto()
    """What it had to fetch could not be fetched."""


@dataclass(slots=True, eq=False)
class Request:
    """What the caller asks for, and how far the engine has come with it."""

    id: str
    prompt_tokens: int
    output_tokens: int
    """It ends after this many; the engine clips it to the model's maximum length."""
    block_hashes: Hashes = field(default_factory=lambda: NO_HASHES)
    """Chained hash of each full block of the prompt, then of prompt and output together. Equal hashes mean equal
    tokens from the start; none is 0. Blocks beyond the end of this array are never shared."""
    priority: int = 0
    """Lower runs first; only looked at by the priority policy."""
    remote_tokens: int = 0
    """Prompt tokens, from the first, whose keys and values can be fetched from another replica. 0 once they could not,
    or once they were fetched and lost again."""
    keep_for_transfer: bool = False
    """When it has finished its blocks are kept for another replica, until ``Engine.release``."""

    arrival_s: float = 0.0
    scheduled_s: float = -1.0
    """When it was first scheduled; negative before."""
    status: Status = Status.WAITING
    total_tokens: int = field(init=False)
    """Prompt and output so far."""
    computed_tokens: int = 0
    """Tokens whose keys and values are in ``blocks``."""
    cached_tokens: int = 0
    """Prompt tokens found in the cache when it was first scheduled."""
    fetched_tokens: int = 0
    """Prompt tokens that it fetches, or has fetched, from another replica: those that the cache did not have."""
    block_table: Blocks = field(default_factory=lambda: NO_BLOCKS)
    """While it runs: room for the blocks of all its tokens. The first ``held_blocks`` are filled."""
    held_blocks: int = 0
    hashed_blocks: int = 0
    """How many of its blocks, from the first, others can find by hash."""
    preemptions: int = 0

    def __post_init__(self) -> None:
        self.total_tokens = self.prompt_tokens

    @property
    def blocks(self) -> Blocks:
        """Those it holds, in the order of its tokens."""
        return self.block_table[: self.held_blocks]

    @property
    def generated_tokens(self) -> int:
        return self.total_tokens - self.prompt_tokens

    @property
    def finish_total_tokens(self) -> int:
        """Length at which it ends."""
        return self.prompt_tokens + self.output_tokens
