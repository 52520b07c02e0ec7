"""A replica drawn at random, each as likely as the others.

GIE's ``random-picker`` without scorers; LiteLLM's ``simple-shuffle`` with equal weights. Here the picker that draws in
proportion to the scores, of which there are none.
"""

from sim.policies.policy import Policy

POLICY = Policy("random", "a replica drawn at random", {"picker": "weighted-random"}, kv_events=False)
