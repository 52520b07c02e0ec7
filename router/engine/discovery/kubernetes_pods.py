"""From pods to replicas: which of them may serve, at which ports, and what their labels and annotations say.

A pod may serve when it is Ready and not terminating. What Weft reads of a pod, as an annotation or as a label:

    weft/events, weft/replay, weft/model, weft/ranks, weft/role    as in a replica's options
    weft/ports                                                     "8000,8001" or names of container ports
    llm-d.ai/role                                                  prefill, decode, prefill-decode, both
    llm-d.ai/active-ports                                          those of the ports that serve at the moment

The second and further ports of a pod are data-parallel ranks that vLLM serves one by one: as there, the ports of their
KV events are those of the first one plus their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from router.core.types import Role
from router.engine.discovery.address import AddressError, ReplicaAddress, make_address
from router.engine.discovery.kubernetes_mirror import Meta
from router.engine.discovery.source import Addresses
from router.engine.identity import CONVENTIONAL_ENDPOINT
from router.engine.kv_events.endpoints import EndpointError, connectable

OPTIONS = ("events", "replay", "model", "ranks", "role")
ROLE_LABEL = "llm-d.ai/role"
ROLES = {
    "prefill": Role.PREFILL,
    "encode-prefill": Role.PREFILL,
    "decode": Role.DECODE,
    "both": Role.BOTH,
    "prefill-decode": Role.BOTH,
    "encode-prefill-decode": Role.BOTH,
}
ACTIVE_PORTS = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")

Port = int | str
"""A number, or the name of a container port."""


class _ContainerPort(msgspec.Struct, rename="camel"):
    container_port: int
    name: str = ""


class _Container(msgspec.Struct):
    ports: list[_ContainerPort] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    """Also sidecars, which are init containers that keep running."""


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Status(msgspec.Struct):
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: list[_Condition] | None = None


class Pod(msgspec.Struct):
    """What Weft reads of a pod."""

    metadata: Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)

    def mark(self, key: str) -> str | None:
        """An annotation, or else a label."""
        return (self.metadata.annotations or {}).get(key, (self.metadata.labels or {}).get(key))


@dataclass(slots=True, frozen=True)
class PodRules:
    """What all pods of a discovery have in common, unless their own annotations say otherwise."""

    ports: tuple[Port, ...] = (8000,)
    scheme: str = "http"
    events: str = "auto"
    replay: str = ""
    labels: tuple[str, ...] = ()
    """The pod labels that become the replica's. Not all of them: a replica whose labels change starts anew."""


@dataclass(slots=True, frozen=True)
class Findings:
    """``left_out`` says of each pod that is not named why, by its name. ``wrong`` are those that somebody must mend."""

    addresses: Addresses
    left_out: dict[str, str]
    wrong: frozenset[str]


def find_replicas(pods: Iterable[Pod], rules: PodRules) -> Findings:
    """The replicas of these pods, in the order of their names."""
    found: dict[str, ReplicaAddress] = {}
    left_out: dict[str, str] = {}
    wrong: set[str] = set()
    # A newer pod goes before an older one that had, or has, the same address.
    for pod in sorted(pods, key=lambda pod: (pod.metadata.creation_timestamp or "", pod.metadata.name), reverse=True):
        try:
            if reason := why_not(pod):
                left_out[pod.metadata.name] = reason
                continue
            addresses = {address.name: address for address in addresses_of(pod, rules)}
            if taken := addresses.keys() & found.keys():
                raise AddressError(f"{min(taken)} is the address of another pod, too")
            found |= addresses
        except AddressError as error:
            left_out[pod.metadata.name] = str(error)
            wrong.add(pod.metadata.name)
    return Findings(tuple(found[name] for name in sorted(found)), left_out, frozenset(wrong))


def why_not(pod: Pod) -> str:
    """Why a pod gets no requests; empty: it may. A pod that terminates keeps those that it has."""
    if pod.metadata.deletion_timestamp:
        return "terminating"
    if not any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or ()):
        return "not ready"
    return "" if pod.status.pod_ip else "no address yet"


def addresses_of(pod: Pod, rules: PodRules) -> Iterator[ReplicaAddress]:
    """One for each port that serves. Raises AddressError."""
    host = f"[{pod.status.pod_ip}]" if ":" in pod.status.pod_ip else pod.status.pod_ip
    options = _options(pod, rules)
    active = _active_ports(pod)
    for place, port in enumerate(_port_numbers(pod, rules)):
        if active is None or port in active:
            yield make_address(f"{rules.scheme}://{host}:{port}", options | _moved(options, pod.status.pod_ip, place))


def _options(pod: Pod, rules: PodRules) -> dict[str, str]:
    options = {"events": rules.events, "replay": rules.replay}
    for key in OPTIONS:
        value = pod.mark(f"weft/{key}")
        if value is not None:
            options[key] = value
    if "role" not in options:
        options["role"] = _role(pod)
    labels = pod.metadata.labels or {}
    return options | {f"label.{name}": labels[name] for name in rules.labels if name in labels}


def _role(pod: Pod) -> str:
    said = pod.mark(ROLE_LABEL) or "both"
    if said not in ROLES:
        raise AddressError(f"{ROLE_LABEL}: {said!r} gets no requests from Weft; allowed: {', '.join(ROLES)}")
    return ROLES[said]


def _port_numbers(pod: Pod, rules: PodRules) -> Iterator[int]:
    own = pod.mark("weft/ports")
    for port in rules.ports if own is None else own.split(","):
        text = str(port).strip()
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else _named_port(pod, text)
        if not 1 <= number <= 65535:
            raise AddressError(f"port {number}; allowed: 1 to 65535")
        yield number


def _named_port(pod: Pod, name: str) -> int:
    for container in [*(pod.spec.containers or []), *(pod.spec.init_containers or [])]:
        for port in container.ports or []:
            if name and port.name == name:
                return port.container_port
    raise AddressError(f"no container has a port that is named {name!r}")


def _active_ports(pod: Pod) -> set[int] | None:
    """None: all."""
    for key in ACTIVE_PORTS:
        said = pod.mark(key)
        if said is not None:
            parts = [part.strip() for part in said.split(",") if part.strip()]
            if not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in parts):
                raise AddressError(f"{key}: {said!r}; expected port numbers with commas between them")
            return {int(part) for part in parts}
    return None


def _moved(options: dict[str, str], host: str, place: int) -> dict[str, str]:
    """Where the KV events of a pod's further ports are."""
    if place == 0:
        return {}
    endpoints = {"events": options["events"], "replay": options["replay"]}
    if endpoints["events"] == "on":
        endpoints["events"] = CONVENTIONAL_ENDPOINT
    try:
        return {key: connectable(value, host, place) for key, value in endpoints.items() if "://" in value}
    except EndpointError as error:
        raise AddressError(str(error)) from error
