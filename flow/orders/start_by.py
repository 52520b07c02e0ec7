"""The time by which a request should start: work that is left, age, deadline and priority of its program on one axis.

    start_by = age + slack - priority * priority_s
    age      = max(when its program was first seen, when the request came - patience)
    slack    = patience * cost / (cost + half_cost)
             = min(patience, deadline - longest path to the end - age)    with a deadline that is not over

The least expected cost goes first, of equal ones the program that came first: so programs are finished before others
like them are begun. Whoever comes more than twice the patience later overtakes nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from router.core.programs.program import Program


@dataclass(slots=True, frozen=True)
class StartBy:
    patience_s: float = 3600.0
    """For a tenant of weight 1."""
    half_cost_s: float = 1000.0
    """What a program costs that half of the patience is asked of."""
    priority_s: float = 60.0
    """What a level of priority is worth."""

    def time_s(self, program: Program, cost_s: float, came_s: float, now: float, weight: float = 1.0) -> float:
        """``cost_s``: see `flow.orders.outlook`; ``came_s``: when the request came."""
        patience_s = self.patience_s / weight
        age_s = max(program.first_seen_s, came_s - patience_s)
        if program.deadline_s is not None and program.deadline_s > now:
            slack_s = min(program.deadline_s - program.remaining_path_s - age_s, patience_s)
        else:
            slack_s = patience_s * cost_s / (cost_s + self.half_cost_s)
        return age_s + slack_s - self.priority_s * program.priority
