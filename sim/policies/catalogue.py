"""All policies by name."""

from __future__ import annotations

from sim.policies import round_robin, weft
from sim.policies.policy import Policy

_MODULES = (round_robin, weft)

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
