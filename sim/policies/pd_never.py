"""Every prompt is computed where it is answered, and prefill replicas have nothing to do."""

from flow.disaggregation.never import Never
from sim.policies.policy import Policy

POLICY = Policy("pd-never", "Weft's profile, prefill replicas do nothing", make_rule=Never, needs_roles=True)
