"""llm-d's P/D rule with the largest threshold of its samples; all else as in `sim.policies.llm_d_pd`."""

from dataclasses import replace
from functools import partial

from flow.disaggregation.min_uncached import MinUncached
from sim.policies import llm_d_pd

POLICY = replace(
    llm_d_pd.POLICY,
    name="llm-d-pd-512",
    line="llm-d's P/D rule: a prefill replica from 512 uncached tokens on",
    make_rule=partial(MinUncached, 512),
)
