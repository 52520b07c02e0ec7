"""The same replicas without roles: each computes the prompts that it answers, prefill replicas too."""

from sim.policies.policy import Policy

POLICY = Policy(
    "pd-aggregated",
    "Weft's profile, every replica serves whole requests whatever its role",
    {"filters": ["healthy", "model", "lora", "subset"], "scorers": [{"name": "added-cost"}]},
    needs_roles=True,
)
