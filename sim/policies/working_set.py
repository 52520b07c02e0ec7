"""Weft's admission by KV memory, first come first served behind it, on Weft's scorers and gate."""

from flow.admission.working_set import WorkingSet
from router.core.flow import Fcfs, Flow
from sim.policies.policy import Policy, World, gate_of


def make_flow(world: World) -> Flow:
    return Flow(Fcfs(), gate_of(world), WorkingSet())


POLICY = Policy(
    "working-set",
    "programs wait while the contexts of those let in fill the KV memory",
    make_flow=make_flow,
    follows_programs=True,
)
