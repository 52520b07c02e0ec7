"""llm-d's P/D guide: decode replica first, prefill elsewhere from 16 tokens on that it does not hold.

``disagg-profile-handler`` with ``prefix-based-pd-decider`` (disaggregate iff the prompt less what the chosen decode
replica has cached is at least ``nonCachedTokens``); both legs score prefix 2, queue 1, and 16 is the guide's threshold:
llm-d/llm-d, guides/pd-disaggregation. Other samples of the project have 8 and 512.
"""

from functools import partial

from flow.disaggregation.min_uncached import MinUncached
from sim.policies.policy import Policy

SCORERS = [{"name": "prefix-cache", "weight": 2.0}, {"name": "queue-depth", "weight": 1.0}]
PREFILL_FILTERS = ["healthy", "model", "lora", "prefills", "subset"]

POLICY = Policy(
    "llm-d-pd",
    "llm-d's P/D guide: a prefill replica from 16 uncached tokens on",
    {"scorers": SCORERS},
    make_rule=partial(MinUncached, 16),
    prefill_profile={"filters": PREFILL_FILTERS, "scorers": SCORERS},
    needs_roles=True,
)
