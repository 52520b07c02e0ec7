"""The endpoint picker protocol's names, and the headers that are the gateway's or ours, never the client's.

Source: ``docs/proposals/004-endpoint-picker-protocol`` of the Gateway API Inference Extension, version 1.0; the names
with ``llm-d`` are llm-d-router's, where those with ``gateway`` are older.
"""

from __future__ import annotations

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
SUBSET = "x-gateway-destination-endpoint-subset"
LB_NAMESPACE = "envoy.lb"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"
OWN_NAMESPACE = "weft"

DROPPED = b"x-llm-d-request-dropped-reason"
OBJECTIVES = (b"x-llm-d-inference-objective", b"x-gateway-inference-objective")
MODEL = b"x-gateway-model-name"
"""Where a gateway has read the body before."""

PREFILLERS = (b"x-llm-d-prefiller-host-port", b"x-prefiller-host-port")
"""Who computes the prompt, for llm-d's sidecar before a decode replica. Older sidecars know the second name alone."""
IF_AVAILABLE = b"if-available"
"""A value of ``Prefer``: only for a replica that holds some of the prompt."""

TEST_SELECTION = b"test-epp-endpoint-selection"
TEST_SERVED = b"x-conformance-test-served-endpoint"
"""Of the conformance tests."""

_STRIPPED = frozenset(
    (
        *OBJECTIVES,
        *PREFILLERS,
        DROPPED,
        SERVED.encode(),
        SUBSET.encode(),
        DESTINATION.encode() + b"-scores",
        TEST_SELECTION,
        b"x-llm-d-inference-fairness-id",
        b"x-gateway-inference-fairness-id",
        b"x-llm-d-model-name-rewrite",
        b"x-gateway-model-name-rewrite",
        b"x-llm-d-slo-ttft-ms",
        b"x-llm-d-slo-tpot-ms",
        b"x-slo-ttft-ms",
        b"x-slo-tpot-ms",
        b"x-llm-d-encoder-hosts-ports",
        b"x-encoder-hosts-ports",
        b"x-llm-d-kv-cache-source-host-port",
        b"x-kv-cache-source-host-port",
        b"x-data-parallel-host-port",
        b"x-data-parallel-rank",
        b"x-vllm-priority",
    )
)
_OWN_PREFIXES = (b"x-weft-", b"x-program-")


def stripped(headers: list[tuple[bytes, bytes]]) -> set[bytes]:
    """Those among a request's headers that a replica must not see."""
    return {key for key, _ in headers if key in _STRIPPED or key.startswith(_OWN_PREFIXES)}


def prefers(value: bytes, preference: bytes) -> bool:
    """Whether a ``Prefer`` header asks for ``preference`` (RFC 7240), whatever its value and parameters."""
    names = (each.partition(b";")[0].partition(b"=")[0] for each in value.split(b","))
    return any(name.strip().lower() == preference for name in names)


def host_of(endpoint: str) -> str:
    """The IP of ``ip:port``, ``[ip]:port`` or ``ip``."""
    if endpoint.startswith("["):
        return endpoint[1:].partition("]")[0]
    return endpoint if endpoint.count(":") > 1 else endpoint.partition(":")[0]


def endpoint_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
