"""NVIDIA Dynamo's KV router at its defaults: prefill blocks left to compute plus decode blocks, the least wins.

``--router-mode kv``; formula, defaults and sources in `scorers.peers.dynamo_cost`. Dynamo can count a prompt as cached
where it was just sent (``router_predicted_ttl_secs``: off by default, 5 s recommended); this router always does.
"""

from sim.policies.policy import Policy

POLICY = Policy("dynamo", "Dynamo's cost: prefill plus decode blocks", {"scorers": [{"name": "dynamo-cost"}]})
