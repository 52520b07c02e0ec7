"""ThunderAgent's pause and resume of programs, first come first served behind it, on Weft's scorers and gate."""

from flow.admission.thunder_agent import ThunderAgent
from router.core.flow import Fcfs
from sim.policies.policy import Policy, in_order

POLICY = Policy(
    "thunder-agent",
    "ThunderAgent: programs are paused while their contexts exceed the KV memory",
    make_flow=in_order(Fcfs, ThunderAgent),
)
