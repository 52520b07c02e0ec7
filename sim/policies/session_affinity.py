"""The replica that served the session last; a new session's replica is drawn at random.

llm-d's ``session-affinity-scorer`` (the session's endpoint 1, the others 0; llm-d/llm-d-router, commit 0b59e4e). Its
token in the client's header never expires; here a session is forgotten after an hour without a call.
"""

from sim.policies.policy import Policy

POLICY = Policy(
    "session-affinity",
    "the replica that served the session last",
    {"scorers": [{"name": "session-affinity"}]},
    kv_events=False,
)
