"""NVIDIA Dynamo's conditional disaggregation at its defaults: local when little is uncached, absolutely and relatively.

``--router-conditional-disagg``, policy ``isl_bounding`` (dynamo-kv-router 1.4.0, src/conditional_disagg.rs): the decode
replica computes the prompt iff what it does not hold is less than 2,048 tokens and less than 0.7 of the prompt. Both
legs are placed by Dynamo's cost (`scorers.peers.dynamo_cost`); its prefill router leaves decode blocks out of that,
which here, where prefill replicas decode nothing, are the prompts being computed.
"""

from __future__ import annotations

from router.core.disaggregation.rule import Ways
from sim.policies.llm_d_pd import PREFILL_FILTERS
from sim.policies.policy import Policy


class IslBounding:
    name = "dynamo-isl-bounding"
    splits = True

    def __init__(self, eff_isl_threshold: int = 2048, eff_isl_ratio_threshold: float = 0.7) -> None:
        self._tokens = eff_isl_threshold
        self._ratio = eff_isl_ratio_threshold

    def disaggregates(self, ways: Ways) -> bool:
        uncached_tokens = ways.here.uncached_tokens
        return uncached_tokens >= self._tokens or uncached_tokens >= self._ratio * max(ways.here.prompt_tokens, 1)


POLICY = Policy(
    "dynamo-pd",
    "Dynamo's conditional disaggregation: local below 2,048 and 70 % uncached tokens",
    {"scorers": [{"name": "dynamo-cost"}]},
    make_rule=IslBounding,
    prefill_profile={"filters": PREFILL_FILTERS, "scorers": [{"name": "dynamo-cost"}]},
    needs_roles=True,
)
