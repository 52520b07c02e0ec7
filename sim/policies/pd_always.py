"""Every prompt is computed on a prefill replica: what a fleet with roles does without a rule."""

from flow.disaggregation.always import Always
from sim.policies.policy import Policy

POLICY = Policy("pd-always", "Weft's profiles, every prompt on a prefill replica", make_rule=Always, needs_roles=True)
