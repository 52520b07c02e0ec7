"""Preble's E2: exploit a prefix that is most of the prompt, else explore by load, eviction and prefill cost.

Preble goes by its own tree of prompts, without KV events. Formula and sources in `scorers.peers.preble`.
"""

from sim.policies.policy import Policy

POLICY = Policy(
    "preble",
    "Preble's E2: exploit long prefixes, else explore by cost",
    {"scorers": [{"name": "preble"}]},
    kv_events=False,
)
