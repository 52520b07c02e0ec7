"""What a program is expected to cost still: the memory of its context for the time to its end.

    cost = context * (n * path + m * reach) / (n + m)

``path`` is the longest expected path to the program's end and ``reach`` the longest so far, both in seconds without
waits in the router. ``n`` is the number of observations that the path rests on (`Program.evidence`), ``m`` the number
from which on it is believed more than half. Of lengths that are spread widely, whoever has gone far will go far: with
no evidence this is the order of least attained service, so that strangers are not guessed at.

The path and not the work, as fleets of agents run out of KV memory first: a program holds its context, which its
siblings share, until it ends. Token-seconds of memory as cost: Justitia (arXiv 2510.17015).
"""

from __future__ import annotations

from router.core.programs.program import Program

TRUSTED_AT = 3.0
"""Observations."""
_UNIT_TOKENS = 10_000.0


def expected_cost_s(program: Program, context_tokens: int, trusted_at: float = TRUSTED_AT) -> float:
    """Seconds for each 10,000 tokens of context."""
    known = program.evidence
    path_s = (known * program.remaining_path_s + trusted_at * program.reach_s) / max(known + trusted_at, 1e-9)
    return path_s * context_tokens / _UNIT_TOKENS
