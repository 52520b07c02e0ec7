"""ThunderAgent's pause and resume of programs, first come first served behind it, on Weft's scorers and gate."""

from flow.admission.thunder_agent import ThunderAgent
from router.core.flow import Fcfs, Flow
from sim.policies.policy import Policy, World, gate_of


def make_flow(world: World) -> Flow:
    return Flow(Fcfs(), gate_of(world), ThunderAgent())


POLICY = Policy(
    "thunder-agent", "ThunderAgent: programs are paused while their contexts exceed the KV memory", None, make_flow
)
