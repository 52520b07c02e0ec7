"""Weft with all that it does for programs: its order, its gate, and its admission by KV memory."""

from flow.admission.working_set import WorkingSet
from flow.orders.critical_path import CriticalPath
from router.core.flow import Flow
from sim.policies.policy import Policy, World, gate_of


def make_flow(world: World) -> Flow:
    return Flow(CriticalPath(), gate_of(world), WorkingSet())


POLICY = Policy(
    "weft-programs",
    "Weft: critical-path, and programs wait while the contexts of those let in fill the KV memory",
    make_flow=make_flow,
    follows_programs=True,
)
