"""All policies by name."""

from __future__ import annotations

from sim.policies import (
    aibrix,
    at_random,
    atlas,
    critical_path,
    dynamo,
    dynamo_lmetric,
    dynamo_wspt,
    fcfs,
    least_load,
    llm_d,
    llm_d_las,
    llm_d_token_load,
    max_prefix,
    oracle,
    oracle_memory,
    plas,
    power_of_two,
    preble,
    production_stack,
    program_fcfs,
    round_robin,
    session_affinity,
    smg,
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
    weft,
    weft_programs,
)

POLICIES: dict[str, Policy] = {module.POLICY.name: module.POLICY for module in _MODULES}


def find_policies(names: str) -> list[Policy]:
    """Policies by a comma-separated list of names, or ``all``. Raises ValueError for a name that there is not."""
    if names == "all":
        return list(POLICIES.values())
    return [_find(name.strip()) for name in names.split(",")]


def _find(name: str) -> Policy:
    found = POLICIES.get(name)
    if found is None:
        raise ValueError(f"no policy {name!r}: give all, or some of {', '.join(POLICIES)}")
    return found
