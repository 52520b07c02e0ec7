"""SMG's P/D mode as it recommends it: always both legs, cache_aware for prefill, power_of_two for decode.

``smg --pd-disaggregation --prefill-policy cache_aware --decode-policy power_of_two``
(docs/concepts/routing/pd-disaggregation.md, commit 1857039): each leg has a policy of its own, and neither knows of the
other's cache.
"""

from flow.disaggregation.always import Always
from sim.policies.llm_d_pd import PREFILL_FILTERS
from sim.policies.policy import Policy

POLICY = Policy(
    "smg-pd",
    "SMG's P/D: always both legs, cache_aware for prefill, power of two for decode",
    {"scorers": [{"name": "running-requests"}], "picker": "power-of-two"},
    kv_events=False,
    make_rule=Always,
    prefill_profile={"filters": PREFILL_FILTERS, "scorers": [{"name": "smg-cache-aware"}]},
    needs_roles=True,
)
