"""The fewest requests in flight, equals drawn at random.

Envoy's ``LEAST_REQUEST`` over all hosts; Dynamo's ``least-loaded``, AIBrix's ``least-request``. The router counts the
requests that it sent itself.
"""

from sim.policies.policy import Policy

POLICY = Policy(
    "least-load", "the fewest requests in flight", {"scorers": [{"name": "running-requests"}]}, kv_events=False
)
