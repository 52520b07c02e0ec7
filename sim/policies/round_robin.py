"""Each replica in turn, whatever it does: nginx's and LiteLLM's default way."""

from sim.policies.policy import Policy

POLICY = Policy("round-robin", "each replica in turn", {"picker": "round-robin"})
