"""Which replicas a server is: what it said of itself and what the user says about it, put together.

A server with several data-parallel ranks is several replicas with one URL, each with its own KV cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from router.core.types import ReplicaSpec
from router.engine.discovery.address import ReplicaAddress
from router.engine.kv_events.endpoints import EndpointError, EventSource, connectable

DEFAULT_BLOCK_SIZE_TOKENS = 16
CONVENTIONAL_ENDPOINT = "tcp://*:5557"
"""Where vLLM publishes when its ``--kv-events-config`` names no endpoint."""


class IdentityError(Exception):
    """The server is not what the user says it is. The message says what it is instead."""


@dataclass(slots=True, frozen=True)
class Models:
    names: tuple[str, ...]
    adapters: tuple[str, ...]
    max_model_len_tokens: int


@dataclass(slots=True, frozen=True)
class Cache:
    """KV cache of one engine; zeros for what it does not say."""

    block_size_tokens: int = 0
    capacity_blocks: int = 0


@dataclass(slots=True, frozen=True)
class Publisher:
    """Endpoints of one publisher of KV events, as the server lists them."""

    endpoint: str
    replay_endpoint: str = ""


@dataclass(slots=True, frozen=True)
class Rank:
    """One replica: the whole server, or one data-parallel rank of it."""

    spec: ReplicaSpec
    events: EventSource | None


@dataclass(slots=True, frozen=True)
class Identity:
    ranks: tuple[Rank, ...]
    notes: tuple[str, ...] = ()
    """What could not be found out, and what was assumed instead."""


def identify(
    address: ReplicaAddress, models: Models, caches: dict[int, Cache], publishers: dict[int, Publisher]
) -> Identity:
    """Puts together what the server and the user said. Raises IdentityError when they contradict each other."""
    if address.model and address.model not in models.names:
        served = ", ".join(models.names)
        raise IdentityError(f"{address.url} serves {served}; its option `model` says {address.model}")
    names = tuple(sorted(models.names, key=lambda name: name != address.model))
    notes = []
    ranks = []
    for rank in _rank_numbers(address, caches, publishers):
        engine = rank if rank is not None else min(caches, default=0)
        cache = caches.get(engine, Cache())
        source = None
        try:
            source = _event_source(address, rank, caches, publishers)
        except EndpointError as error:
            notes.append(f"no KV events: {error}")
        if not cache.block_size_tokens:
            notes.append(f"block size unknown, taken to be {DEFAULT_BLOCK_SIZE_TOKENS} tokens")
        spec = ReplicaSpec(
            name=address.name if rank is None else f"{address.name}#{rank}",
            url=address.url,
            rank=rank,
            role=address.role,
            models=names,
            adapters=models.adapters,
            block_size_tokens=cache.block_size_tokens or DEFAULT_BLOCK_SIZE_TOKENS,
            capacity_blocks=cache.capacity_blocks,
            max_model_len_tokens=models.max_model_len_tokens,
            reports_events=source is not None,
            labels=address.labels,
        )
        ranks.append(Rank(spec, source))
    return Identity(tuple(ranks), tuple(notes))


def _rank_numbers(
    address: ReplicaAddress, caches: dict[int, Cache], publishers: dict[int, Publisher]
) -> list[int | None]:
    """Ranks to route to one by one; ``[None]`` for a server that is one replica.

    A server that says it has but one rank, whatever its number, is one of several servers behind somebody else's
    balancer (vLLM's external load balancing): its requests need no rank.
    """
    if address.ranks:
        return [None] if address.ranks == 1 else list(range(address.ranks))
    known = sorted({*caches, *publishers})
    return [None] if len(known) <= 1 else list(known)


def _event_source(
    address: ReplicaAddress, rank: int | None, caches: dict[int, Cache], publishers: dict[int, Publisher]
) -> EventSource | None:
    """Where this replica's events come from. Raises EndpointError."""
    balanced_by_vllm = rank is None and max(len(caches), len(publishers)) > 1
    if address.events == "off" or balanced_by_vllm:
        return None
    offset = rank or 0
    replay = connectable(address.replay, address.host, offset) if address.replay else ""
    if address.events not in ("auto", "on"):
        return EventSource(connectable(address.events, address.host, offset), replay)
    if publishers:
        published = publishers.get(offset) if rank is not None else next(iter(publishers.values()))
        return _published(published, address.host, replay, offset if _without_offset(publishers) else 0)
    if address.events == "on":
        return EventSource(connectable(CONVENTIONAL_ENDPOINT, address.host, offset), replay)
    return None


def _published(published: Publisher | None, host: str, replay: str, offset: int) -> EventSource | None:
    if published is None:
        return None
    if published.replay_endpoint and not replay:
        replay = connectable(published.replay_endpoint, host, offset)
    return EventSource(connectable(published.endpoint, host, offset), replay)


def _without_offset(publishers: dict[int, Publisher]) -> bool:
    """Whether all ranks list the endpoint that was configured, instead of the one each really has."""
    return len(publishers) > 1 and len({publisher.endpoint for publisher in publishers.values()}) == 1
