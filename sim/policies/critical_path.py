"""Weft's order of programs."""

from flow.orders.critical_path import CriticalPath
from sim.policies.policy import Policy, in_order

POLICY = Policy(
    "critical-path",
    "Weft: least expected work first, then the longest path; shares of tenants, deadlines",
    make_flow=in_order(CriticalPath),
    follows_programs=True,
)
