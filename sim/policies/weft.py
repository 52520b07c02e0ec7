"""Weft as it ships: the default profile."""

from sim.policies.policy import Policy

POLICY = Policy("weft", "Weft's default profile, nothing waits in the router")
