"""First come, first served: what all orders are compared with."""

from router.core.flow import Fcfs
from sim.policies.policy import Policy, in_order

POLICY = Policy("fcfs", "requests wait in the router, first come first served", make_flow=in_order(Fcfs))
