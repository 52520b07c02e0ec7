"""llm-d's ``program-aware-fairness``, on Weft's scorers and gate."""

from flow.orders.las import LeastAttainedService
from sim.policies.policy import Policy, in_order

POLICY = Policy(
    "llm-d-las",
    "llm-d: the program with the least attained service goes first",
    make_flow=in_order(LeastAttainedService),
)
