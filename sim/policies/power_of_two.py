"""The one with fewer requests in flight, of two drawn at random.

Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); SMG's and vLLM Router's ``power_of_two``
(model_gateway/src/policies/power_of_two.rs), Envoy's default for ``LEAST_REQUEST``.
"""

from sim.policies.policy import Policy

POLICY = Policy(
    "power-of-two",
    "of two drawn at random, the one with fewer requests in flight",
    {"scorers": [{"name": "running-requests"}], "picker": "power-of-two"},
    kv_events=False,
)
