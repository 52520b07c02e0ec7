"""AIBrix with ``routing-strategy: prefix-cache``: see `scorers.peers`."""

from sim.policies.policy import Policy

POLICY = Policy(
    "aibrix",
    "AIBrix prefix-cache: the best match within one deviation of the mean load, else the fewest requests",
    {"scorers": [{"name": "aibrix-prefix-cache"}]},
    kv_events=False,
)
