"""Where KV events are published: ZMQ endpoints as vLLM is configured with them, turned into ones to connect to."""

from __future__ import annotations

from typing import NamedTuple

_WILDCARDS = ("*", "0.0.0.0", "::", "[::]")


class EndpointError(ValueError):
    """Not an endpoint that can be connected to. The message says what is allowed."""


class EventSource(NamedTuple):
    """One publisher."""

    endpoint: str
    """``tcp://host:port`` or ``ipc://path`` of the PUB socket."""
    replay_endpoint: str = ""
    """Of the ROUTER socket; empty when there is none."""


def connectable(endpoint: str, host: str, rank: int = 0) -> str:
    """``endpoint`` with ``host`` in place of a wildcard, and the port of data-parallel rank ``rank``.

    vLLM adds the rank to the configured port. Raises EndpointError.
    """
    if endpoint.startswith("ipc://") and len(endpoint) > len("ipc://") and rank == 0:
        return endpoint
    published_host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if not endpoint.startswith("tcp://") or not published_host or not _is_port(port, rank):
        of_rank = f" (of rank {rank})" if rank else ""
        raise EndpointError(f"not a KV event endpoint{of_rank}: {endpoint!r}; use tcp://HOST:PORT or ipc://PATH")
    if published_host in _WILDCARDS:
        published_host = f"[{host}]" if ":" in host else host
    return f"tcp://{published_host}:{int(port) + rank}"


def _is_port(port: str, rank: int) -> bool:
    return port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) + rank <= 65535
