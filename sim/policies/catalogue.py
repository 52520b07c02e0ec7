"""All policies by name."""

from __future__ import annotations

from sim.policies import (
    aibrix,
    at_random,
    atlas,
    critical_path,
    dynamo,
    dynamo_lmetric,
    dynamo_pd,
    dynamo_pd_queue,
    dynamo_wspt,
    fcfs,
    least_load,
    llm_d,
    llm_d_las,
    llm_d_pd,
    llm_d_pd_512,
    llm_d_token_load,
    max_prefix,
    oracle,
    oracle_memory,
    pd_aggregated,
    pd_always,
    pd_never,
    plas,
    power_of_two,
    preble,
    production_stack,
    program_fcfs,
    round_robin,
    session_affinity,
    smg,
    smg_pd,
    srpt,
    thunder_agent,
    vllm_router,
    weft,
    weft_programs,
    working_set,
)
from sim.policies.policy import Policy

_MODULES = (
    round_robin,
    at_random,
    least_load,
    power_of_two,
    session_affinity,
    max_prefix,
    llm_d,
    llm_d_token_load,
    dynamo,
    dynamo_lmetric,
    smg,
    vllm_router,
    production_stack,
    aibrix,
    preble,
    fcfs,
    program_fcfs,
    llm_d_las,
    dynamo_wspt,
    plas,
    atlas,
    srpt,
    thunder_agent,
    working_set,
    critical_path,
    oracle,
    oracle_memory,
    pd_never,
    pd_aggregated,
    pd_always,
    llm_d_pd,
    llm_d_pd_512,
    dynamo_pd,
    dynamo_pd_queue,
    smg_pd,
    weft,
    weft_programs,
)

POLICIES: dict[str, Policy] = {module.POLICY.name: module.POLICY for module in _MODULES}


def find_policies(names: str, *, roles: bool = False) -> list[Policy]:
    """Policies by a comma-separated list of names, or ``all``: with ``roles``, those for prefill and decode replicas
    too. Raises ValueError for a name that there is not, or that needs such replicas where there are none."""
    if names == "all":
        return [policy for policy in POLICIES.values() if roles or not policy.needs_roles]
    found = [_find(name.strip()) for name in names.split(",")]
    for policy in found:
        if policy.needs_roles and not roles:
            raise ValueError(f"policy {policy.name} is about prefill and decode replicas: give --prefill and --decode")
    return found


def _find(name: str) -> Policy:
    found = POLICIES.get(name)
    if found is None:
        raise ValueError(f"no policy {name!r}: give all, or some of {', '.join(POLICIES)}")
    return found
