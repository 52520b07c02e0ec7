"""The two legs of one request, and why they may not come together."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from router.core.types import ReplicaSpec

DEFAULT_BOOTSTRAP_PORT = 8998
"""Of SGLang's ``--disaggregation-bootstrap-port`` and of vLLM's ``VLLM_MOONCAKE_BOOTSTRAP_PORT``."""


class HandOverError(Exception):
    """The request cannot be split, or what the prefill replica answered is no use to the decode replica."""


@dataclass(slots=True, frozen=True)
class Legs:
    """Who computes the prompt of a request and who answers it."""

    path: str
    request_id: str
    """The same on both legs."""
    transfer_id: str
    """Names this pair of legs alone: a request that is tried again has another one."""
    prefill: ReplicaSpec
    decode: ReplicaSpec


def bootstrap_host(prefill: ReplicaSpec) -> str:
    """Where its bootstrap server is, as URLs have it: what its label ``bootstrap_host`` says, or its own URL."""
    host = prefill.labels.get("bootstrap_host") or urlsplit(prefill.url).hostname or ""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def bootstrap_port(prefill: ReplicaSpec) -> int:
    """Its label ``bootstrap_port``. Raises HandOverError when that is not a number."""
    port = prefill.labels.get("bootstrap_port", "")
    if port and not port.isdecimal():
        raise HandOverError(f"the label bootstrap_port of {prefill.name} is not a number: {port!r}")
    return int(port) if port else DEFAULT_BOOTSTRAP_PORT
