"""Weft as it ships: the default profile, and prompts computed elsewhere where that costs least."""

from sim.policies.policy import Policy, shipped_rule

POLICY = Policy("weft", "Weft's default profile, nothing waits in the router", make_rule=shipped_rule)
