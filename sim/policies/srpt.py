"""Least expected work left goes first, by what Weft knows of programs."""

from flow.orders.srpt import Srpt
from sim.policies.policy import Policy, in_order

POLICY = Policy(
    "srpt", "the program that is expected to need least goes first", make_flow=in_order(Srpt), follows_programs=True
)
