"""vllm-project/router with ``--policy cache_aware``: see `scorers.peers`."""

from sim.policies.policy import Policy

POLICY = Policy(
    "vllm-router",
    "vLLM Router cache_aware: session, then prefix, then load; load alone when out of balance",
    {"scorers": [{"name": "vllm-router-cache-aware"}]},
    kv_events=False,
)
