"""NVIDIA Dynamo's ``lmetric`` policy at its defaults: uncached tokens times requests in flight, hot prefixes spread.

Formula, defaults and sources in `scorers.peers.dynamo_lmetric`.
"""

from sim.policies.policy import Policy

POLICY = Policy(
    "dynamo-lmetric",
    "Dynamo's lmetric: uncached tokens times requests in flight",
    {"scorers": [{"name": "dynamo-lmetric"}]},
)
