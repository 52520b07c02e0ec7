"""Who of one program goes first: what blocks it, then the longest way to its end.

- A step that nothing waits for, while the program goes on without it, may be thrown away: it comes last.
- Else upward rank. All siblings of a join have the join's: none of them is less late than the others.
- Among siblings, those of the join that lacks fewest go first, as all others have waited; then the longest first.
"""

from __future__ import annotations

from router.core.flow import Rank
from router.core.programs.step import Step

_FEW_LEFT = 8
"""Joins that lack more are alike."""


def place(step: Step) -> Rank:
    """Lower goes first."""
    join = step.join
    if join is not None and join.node in step.followers:
        return 0.0, -join.node.path_s, float(min(join.left, _FEW_LEFT)), -step.path_s
    return float(is_speculative(step)), -step.path_s, 0.0, 0.0


def is_speculative(step: Step) -> bool:
    """Whether nothing waits for the step while its program has a longer way to go."""
    program = step.program
    return not step.followers and not step.tail_calls and program.remaining_path_s > step.path_s
