"""What an operator decides about identity: who vouches for a tenant, and how far clients are believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class IdentitySettings:
    """Header names are lower-cased."""

    tenant_header: str = ""
    """A header that only your own gateway can set: its value is the tenant. Empty: no header is trusted."""
    tenant_from_key: bool = True
    """Requests with different API keys come from different tenants. Turn it off where nobody checks the keys."""
    program_headers: tuple[str, ...] = ()
    """More headers that name a program in your installation, believed after Weft's own."""
    max_priority: int = 0
    """How urgent a client may call its own program, 0 or more. It may always call it less urgent."""
    max_priority_of: Mapping[str, int] = field(default_factory=dict)
    """The same for single tenants."""
