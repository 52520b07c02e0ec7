"""What changes in a request's head on its way to a replica."""

from __future__ import annotations

from functools import lru_cache

from router.core.types import ReplicaSpec
from router.extproc.messages import Headers
from router.extproc.names import PREFILLERS, stripped
from router.proxy.origin import Origin

_origin = lru_cache(maxsize=4096)(Origin.parse)


def added(
    headers: Headers, spec: ReplicaSpec, request_id: bytes, priority: int | None = None, prefiller: str = ""
) -> Headers:
    """What the replica is told. ``prefiller``: ``ip:port`` of the replica that computes the prompt; empty: none."""
    found: Headers = []
    if (b"x-request-id", request_id) not in headers:
        found.append((b"x-request-id", request_id))
    if spec.rank is not None:
        found.append((b"x-data-parallel-rank", b"%d" % spec.rank))
    base_path = _origin(spec.url).base_path
    if base_path:
        found.append((b":path", base_path + dict(headers).get(b":path", b"/")))
    if priority is not None:
        found.append((b"x-vllm-priority", b"%d" % priority))
    if prefiller:
        found += [(name, prefiller.encode()) for name in PREFILLERS]
    return found


def removed(headers: Headers, kept: Headers) -> list[str]:
    """The names of what is none of the replica's business, less those that are in ``kept``."""
    names = stripped(headers).difference(name for name, _ in kept)
    return sorted(name.decode() for name in names)
