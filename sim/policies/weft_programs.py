"""Weft with all that it does for programs: its order, its gate, and its admission by KV memory."""

from flow.admission.working_set import WorkingSet
from flow.orders.critical_path import CriticalPath
from sim.policies.policy import Policy, in_order, shipped_rule

POLICY = Policy(
    "weft-programs",
    "Weft: critical-path, and programs wait while the contexts of those let in fill the KV memory",
    make_flow=in_order(CriticalPath, WorkingSet),
    follows_programs=True,
    make_rule=shipped_rule,
)
