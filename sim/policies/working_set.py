"""Weft's admission by KV memory, first come first served behind it, on Weft's scorers and gate."""

from flow.admission.working_set import WorkingSet
from router.core.flow import Fcfs
from sim.policies.policy import Policy, in_order

POLICY = Policy(
    "working-set",
    "programs wait while the contexts of those let in fill the KV memory",
    make_flow=in_order(Fcfs, WorkingSet),
    follows_programs=True,
)
