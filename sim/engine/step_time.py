"""How long a step takes: a sum of linear terms, each with a physical meaning.

Integer picoseconds throughout, so that any number of steps adds up to the same figure in whatever order they
are added. Floats would make a stretch of steps differ from the same steps taken one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

PS_PER_S = 10**12


@dataclass(slots=True)
class Work:
    """What one step computes."""

    prefill_tokens: int = 0
    attention_pairs: int = 0
    """Pairs of (prompt token computed, earlier token that it attends to), itself included."""
    decode_seqs: int = 0
    """Sequences that compute a single token."""
    context_tokens: int = 0
    """Tokens whose keys and values are read from memory."""

    def add(self, tokens: int, computed_tokens: int) -> None:
        """Count one request that computes ``tokens`` after ``computed_tokens``."""
        self.context_tokens += computed_tokens + tokens
        if tokens == 1:
            self.decode_seqs += 1
        else:
            self.prefill_tokens += tokens
            self.attention_pairs += tokens * computed_tokens + tokens * (tokens + 1) // 2


@dataclass(slots=True, frozen=True)
class StepTime:
    """Coefficients of the model, in picoseconds."""

    fixed_ps: int
    """Reading the weights once, launching kernels, scheduling."""
    prefill_token_ps: int
    """Multiplying one prompt token by the weights."""
    attention_pair_ps: int
    """Attention of one prompt token to one token before it."""
    decode_seq_ps: int
    """One more sequence in the batch: its share of the matrix products, sampling, bookkeeping."""
    context_token_ps: int
    """Reading the keys and values of one token."""

    def duration_ps(self, work: Work) -> int:
        return (
            self.fixed_ps
            + work.prefill_tokens * self.prefill_token_ps
            + work.attention_pairs * self.attention_pair_ps
            + work.decode_seqs * self.decode_seq_ps
            + work.context_tokens * self.context_token_ps
        )
