"""llm-d's newest: prefix affinity as a filter with an escape, then the fewest prefill tokens in flight.

``prefix-cache-affinity-filter`` and ``token-load-scorer``, which llm-d's guides use since llm-d #1651 and #2071 (July
2026) in place of weighted scorers; defaults and sources in `scorers.peers.llm_d_token_load`.
"""

from sim.policies.policy import Policy

POLICY = Policy(
    "llm-d-token-load",
    "llm-d's newest: prefix affinity filter, then the fewest prefill tokens",
    {"scorers": [{"name": "llm-d-token-load"}]},
)
