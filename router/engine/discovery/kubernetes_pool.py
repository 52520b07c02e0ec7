"""What an InferencePool says of its pods: their labels and ports.

Both groups of the API are read: ``inference.networking.k8s.io/v1`` (``matchLabels``, ``targetPorts``) and the older
``inference.networking.x-k8s.io/v1alpha2`` (labels as they are, ``targetPortNumber``).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from router.engine.discovery.kubernetes_mirror import Meta

VERSIONS = {"inference.networking.k8s.io": "v1", "inference.networking.x-k8s.io": "v1alpha2"}
"""By group."""


class PoolError(ValueError):
    """An InferencePool that names no pods. The message says what is missing."""


class _Port(msgspec.Struct):
    number: int


class _Spec(msgspec.Struct, rename="camel"):
    selector: dict[str, str | dict[str, str]] | None = None
    target_ports: list[_Port] | None = None
    target_port_number: int = 0


class InferencePool(msgspec.Struct):
    """What Weft reads of one."""

    metadata: Meta
    spec: _Spec


@dataclass(slots=True, frozen=True)
class Target:
    """The pods of a pool."""

    selector: str
    """As kubectl takes it: ``app=vllm,tier=gpu``."""
    ports: tuple[int, ...]


def target_of(pool: InferencePool) -> Target:
    """Raises PoolError."""
    selector = pool.spec.selector or {}
    match = selector.get("matchLabels", selector)
    labels = {key: value for key, value in match.items() if isinstance(value, str)} if isinstance(match, dict) else {}
    ports = tuple(port.number for port in pool.spec.target_ports or ()) or (pool.spec.target_port_number,)
    if not labels:
        raise PoolError(f"InferencePool {pool.metadata.name}: its selector is empty and would name every pod")
    if not all(ports):
        raise PoolError(f"InferencePool {pool.metadata.name}: no target port")
    return Target(",".join(f"{key}={labels[key]}" for key in sorted(labels)), ports)
