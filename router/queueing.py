"""Makes the queue and what is believed of clients out of configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flow.registry import UnknownPartError, make_admission, make_gate, make_order
from router.config import ConfigError, PartConfig, TenantConfig, WeftConfig
from router.core.flow import Flow, QueueLimits
from router.hints.settings import IdentitySettings

_Part = TypeVar("_Part")

_OF_REQUESTS = PartConfig(name="fcfs"), PartConfig(name="none"), PartConfig(name="none")
_OF_PROGRAMS = PartConfig(name="critical-path"), PartConfig(name="step-budget"), PartConfig(name="working-set")
"""Order, gate and admission where the configuration names none, and programs are followed."""


def make_flow(config: WeftConfig) -> Flow:
    """A flow as `queue` and `tenants` have it. Raises ConfigError that names file, key and what is allowed."""
    queue, tenants = config.queue, config.tenants
    weights: dict[str, float] = _given(tenants, lambda tenant: tenant.weight)
    key = f"{config.source}: queue"
    order, gate, admission = _OF_PROGRAMS if config.programs.enabled else _OF_REQUESTS
    return Flow(
        order=_part(f"{key}.order", queue.order or order, lambda name, given: make_order(name, given, weights)),
        gate=_part(f"{key}.gate", queue.gate or gate, make_gate),
        admission=_part(f"{key}.admission", queue.admission or admission, make_admission),
        limits=QueueLimits(
            max_waiting=queue.max_waiting,
            max_waiting_per_tenant=queue.max_waiting_per_tenant,
            max_waiting_of=_given(tenants, lambda tenant: tenant.max_waiting),
            max_wait_s=queue.max_wait_s,
        ),
    )


def identity_settings(config: WeftConfig) -> IdentitySettings:
    """Who vouches for tenants, and how far clients are believed."""
    identity = config.identity
    return IdentitySettings(
        tenant_header=identity.tenant_header,
        tenant_from_key=identity.tenant_from_key,
        program_headers=tuple(identity.program_headers),
        max_priority=identity.max_priority,
        max_priority_of=_given(config.tenants, lambda tenant: tenant.max_priority),
    )


def _part(key: str, config: PartConfig, make: Callable[[str, dict[str, Any]], _Part]) -> _Part:
    try:
        return make(config.name, config.parameters)
    except UnknownPartError as error:
        raise ConfigError(f"{key}: {error}") from error


def _given(tenants: Mapping[str, TenantConfig], of: Callable[[TenantConfig], _Part | None]) -> dict[str, _Part]:
    """What is set, by tenant."""
    return {name: value for name, tenant in tenants.items() if (value := of(tenant)) is not None}
