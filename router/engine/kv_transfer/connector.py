"""Connectors: what the two legs of a request say to the engines, by the name of the transfer that these were started
with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from router.core.types import ReplicaSpec
from router.engine.kv_transfer.legs import HandOverError, Legs
from router.engine.kv_transfer.mooncake import MooncakeConnector
from router.engine.kv_transfer.nixl import NixlConnector
from router.engine.kv_transfer.sglang import SglangConnector
from router.engine.kv_transfer.shared_storage import SharedStorageConnector

__all__ = ["CONNECTORS", "Connector", "Directory", "HandOverError", "Legs", "make_connector"]


class Directory(Protocol):
    """What a connector must know of prefill replicas before others can fetch from them."""

    def url_of(self, prefill: ReplicaSpec) -> str | None:
        """What to GET; None: it is known. Raises HandOverError."""

    def learn(self, prefill: ReplicaSpec, answer: bytes) -> None:
        """Raises HandOverError when the answer does not tell."""

    def forget(self, prefill: ReplicaSpec) -> None:
        """Nothing could be fetched: it may have been restarted."""


class Connector(Protocol):
    """Knows one protocol between the engines. No I/O."""

    name: str
    at_once: bool
    """Both legs are sent together, and the first one's answer is of no use."""
    aggregates: bool
    """Decode replicas can also compute prompts themselves."""
    leases: bool
    """The prefill replica keeps what it computed until it is fetched, or until a time of its own is over."""

    @property
    def directory(self) -> Directory | None: ...

    def serves(self, path: str) -> bool:
        """Whether requests to ``path`` can have two legs at all."""

    def prefill_body(self, body: bytes, legs: Legs) -> bytes:
        """What the prefill replica is sent. Raises HandOverError when this request must stay in one piece."""

    def decode_body(self, body: bytes, legs: Legs, prefill_answer: bytes) -> bytes:
        """What the decode replica is sent. ``prefill_answer`` is empty when the legs go out at once. Raises
        HandOverError when it lacks what is needed."""


_MAKERS: dict[str, Callable[[], Connector]] = {
    "nixl": NixlConnector,
    "mooncake": MooncakeConnector,
    "sglang": SglangConnector,
    "shared-storage": SharedStorageConnector,
}

CONNECTORS = tuple(_MAKERS)


def make_connector(name: str) -> Connector:
    """Raises ValueError when there is none called ``name``."""
    maker = _MAKERS.get(name)
    if maker is None:
        raise ValueError(f"there is no connector {name!r}; there are {', '.join(CONNECTORS)}")
    return maker()
