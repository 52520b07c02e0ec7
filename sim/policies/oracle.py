"""An oracle that knows every length: what the order alone can gain from knowing.

Programs with the least work left go first (SRPT, the best order for the mean completion time of one queue), and in a
program the steps with the longest path to its end (HEFT). What is left is the work of all steps that have not ended.
It is no proof of a bound: placement is Weft's, a fleet is more than one queue, and where the KV memory is too small an
admission that keeps programs out can gain more than any order.
"""

from __future__ import annotations

from collections.abc import Collection

from router.core.flow import Flow, ProgramKey, Rank, Waiting
from router.core.types import Outcome, Request, Ticket, Usage
from sim.policies.oracle_costs import StepCost, step_costs
from sim.policies.policy import Policy, World, gate_of


class SrptHeft:
    """Programs by work left, steps by upward rank. Requests without a hint that it knows go last."""

    name = "oracle"

    def __init__(self, costs: dict[str, dict[str, StepCost]]) -> None:
        self._costs = costs
        self._left_s = {program: sum(cost.work_s for cost in steps.values()) for program, steps in costs.items()}
        self._moved: dict[ProgramKey, None] = {}

    def rank(self, waiting: Waiting, now: float) -> Rank:
        request = waiting.request
        cost = self._cost(request)
        if request.program is None or cost is None:
            return float("inf"), 0.0
        return self._left_s[request.program.id], -cost.rank_s

    def moved(self, now: float) -> Collection[ProgramKey]:
        moved, self._moved = self._moved, {}
        return moved

    def submitted(self, waiting: Waiting, now: float) -> None:
        """Nothing changes for others."""

    def dispatched(self, waiting: Waiting, now: float) -> None:
        """The work is still to be done."""

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        """The work is still to be done."""

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        request = ticket.request
        cost = self._cost(request)
        if request.program is not None and cost is not None and outcome is Outcome.OK:
            self._left_s[request.program.id] -= cost.work_s
            self._moved[request.program_key] = None

    def _cost(self, request: Request) -> StepCost | None:
        hint = request.program
        return None if hint is None else self._costs.get(hint.id, {}).get(hint.step)


def make_flow(world: World) -> Flow:
    return Flow(SrptHeft(step_costs(world.programs, world.engine)), gate_of(world))


POLICY = Policy(
    "oracle",
    "knows all lengths: least work left, then the longest path (SRPT, HEFT)",
    make_flow=make_flow,
    hints="full",
)
