"""Autellix' PLAS with its choice of engine, on Weft's gate."""

from flow.orders.plas import plas
from sim.policies.policy import Policy, in_order

POLICY = Policy(
    "plas",
    "Autellix for one thread of calls: programs that have been served least, in seven queues",
    {"scorers": [{"name": "autellix-locality", "weight": 1}]},
    in_order(plas),
)
