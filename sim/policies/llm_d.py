"""llm-d with precise prefix awareness at the weights 3:2:2: prefix, queue, KV utilisation.

The weights are those of llm-d-kv-cache's benchmarking/73-capacity/README.md ("precise") and of the Helm chart since
GIE #1827; guides/precise-prefix-cache-routing (llm-d/llm-d, commit 076e65d) adds ``no-hit-lru-scorer`` at 2. Scorers of
llm-d/llm-d-router, pkg/epp/framework/plugins/scheduling/scorer, commit 2342697: ``prefix-cache-scorer`` (matched over
total blocks; GPU 1, CPU 0.8, other tiers 1), ``queue-scorer`` ((max - waiting) / (max - min)) and
``kv-cache-utilization-scorer`` (1 - usage). Its ``max-score-picker`` takes turns among equals; here the picker draws.

llm-d reads waiting requests and KV usage from each replica's metrics every 50 ms. KV usage comes from the cluster's
load reports here as well. Waiting requests are those that the router sent and that have not begun to answer: never
stale, and a little more than the engine's own queue, by those whose prefill has begun.
"""

from sim.policies.policy import Policy

_TIERS = {"cpu_weight": 0.8, "disk_weight": 1.0}

POLICY = Policy(
    "llm-d",
    "llm-d's precise prefix 3, queue 2, KV utilisation 2",
    {
        "scorers": [
            {"name": "prefix-cache", "weight": 3.0, "parameters": _TIERS},
            {"name": "queue-depth", "weight": 2.0},
            {"name": "kv-utilisation", "weight": 2.0},
        ]
    },
)
