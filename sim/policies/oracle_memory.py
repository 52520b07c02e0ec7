"""The oracle's order behind Weft's admission: what knowing every length adds to `weft-programs`."""

from flow.admission.working_set import WorkingSet
from router.core.flow import Flow
from sim.policies.oracle import SrptHeft
from sim.policies.oracle_costs import step_costs
from sim.policies.policy import Policy, World, gate_of


def make_flow(world: World) -> Flow:
    return Flow(SrptHeft(step_costs(world.programs, world.engine)), gate_of(world), WorkingSet())


POLICY = Policy(
    "oracle-memory",
    "the oracle's order, and Weft's admission by KV memory",
    make_flow=make_flow,
    hints="full",
    follows_programs=True,
)
