"""The replica that holds most of the prompt, whatever it does; equals are drawn at random.

What prefix-aware routing is without any regard to load: the bound on affinity, and how it collapses.
"""

from sim.policies.policy import Policy

_LONGEST = {"name": "prefix-cache", "parameters": {"cpu_weight": 1.0, "disk_weight": 1.0}}

POLICY = Policy("max-prefix", "the longest cached prefix, whatever the load", {"scorers": [_LONGEST]})
