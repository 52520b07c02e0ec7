"""Autellix' ATLAS with its choice of engine, on Weft's gate."""

from flow.orders.atlas import atlas
from sim.policies.policy import Policy, in_order

POLICY = Policy(
    "atlas",
    "Autellix for parallel calls: the path that has been served least, in seven queues",
    {"scorers": [{"name": "autellix-locality", "weight": 1}]},
    in_order(atlas),
)
