"""How one try at a replica ended."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.types import Outcome, Usage
from router.errors import ApiError


@dataclass(slots=True, frozen=True)
class Ended:
    """How a try ended."""

    outcome: Outcome
    usage: Usage | None = None
    error: ApiError | None = None
    """Set when the client has seen nothing, so that another replica may be asked."""
    cut_off: bool = False
    """The answer could not be brought to a clean end: the client's connection must be reset."""
    whole_might_do: bool = False
    """Set when what the replica did not take may be the KV blocks, so that it may be asked without."""


def unreachable(status: int, what: str) -> ApiError:
    return ApiError(status, f"The replica {what}.", type="upstream_error")
