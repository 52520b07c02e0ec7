"""Dynamo's ``--router-queue-policy wspt``, on Weft's scorers and gate, so that only the order differs from the others.

Dynamo holds requests behind its own gate, `AllBusy`, and only where ``--router-queue-threshold`` is set.
"""

from flow.orders.wspt import Wspt
from sim.policies.policy import Policy, in_order

POLICY = Policy("dynamo-wspt", "Dynamo: the shortest prefill goes first", make_flow=in_order(Wspt))
