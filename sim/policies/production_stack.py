"""vLLM production-stack with ``--routing-logic prefixaware``: see `scorers.peers`."""

from sim.policies.policy import Policy

POLICY = Policy(
    "production-stack",
    "vLLM production-stack prefixaware: the longest prefix, whatever the load",
    {"scorers": [{"name": "production-stack-prefixaware"}]},
    kv_events=False,
)
