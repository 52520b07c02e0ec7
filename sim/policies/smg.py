"""SMG, as ``smg launch`` starts it in front of HTTP workers: ``--policy cache_aware``, see `scorers.peers`."""

from sim.policies.policy import Policy

POLICY = Policy(
    "smg",
    "SMG cache_aware: holders of the prefix unless hot, else the shortest expected wait",
    {"scorers": [{"name": "smg-cache-aware"}]},
    kv_events=False,
)
