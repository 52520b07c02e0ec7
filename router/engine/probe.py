"""What a replica is: asked of the server itself, before it gets its first request.

``/v1/models`` names the models, ``/metrics`` describes the KV cache, ``/kv_event_sources`` (vLLM 0.32 and later) says
where KV events are published.
"""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec

from router.engine.discovery.address import MAX_RANKS, ReplicaAddress
from router.engine.http import FetchError, Limits, fetch
from router.engine.identity import Cache, Identity, IdentityError, Models, Publisher, identify
from router.engine.prometheus import MalformedLineError, labels_of, samples

LIMITS = Limits(timeout_s=5.0)


class ProbeError(Exception):
    """The server did not say what it is. The message says what is wrong and, where possible, what to do."""


class _Card(msgspec.Struct):
    id: str
    parent: str | None = None
    max_model_len: int | None = None


class _Cards(msgspec.Struct):
    data: list[_Card]


class _Publisher(msgspec.Struct):
    """One entry of ``/kv_event_sources``."""

    enable_kv_cache_events: bool = False
    publisher: str | None = None
    endpoint: str = ""
    replay_endpoint: str | None = None


async def probe(session: aiohttp.ClientSession, address: ReplicaAddress, limits: Limits = LIMITS) -> Identity:
    """Asks the server at ``address``. Raises ProbeError."""
    models = await ask_models(session, address.url, limits)
    caches, publishers = await asyncio.gather(
        ask_caches(session, address.url, limits), ask_publishers(session, address.url, limits)
    )
    try:
        return identify(address, models, caches, publishers)
    except IdentityError as error:
        raise ProbeError(str(error)) from error


async def ask_models(session: aiohttp.ClientSession, url: str, limits: Limits = LIMITS) -> Models:
    """Base models are the entries without ``parent``. Raises ProbeError."""
    try:
        body = await fetch(session, f"{url}/v1/models", limits)
        cards = msgspec.json.decode(body, type=_Cards).data
    except FetchError as error:
        hint = "; it wants an API key" if error.status in (401, 403) else ""
        raise ProbeError(f"{error}{hint}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProbeError(f"GET {url}/v1/models is not a list of models: {error}") from error
    bases = [card for card in cards if card.parent is None]
    if not bases:
        raise ProbeError(f"GET {url}/v1/models names no model")
    return Models(
        tuple(card.id for card in bases),
        tuple(card.id for card in cards if card.parent is not None),
        bases[0].max_model_len or 0,
    )


async def ask_caches(session: aiohttp.ClientSession, url: str, limits: Limits = LIMITS) -> dict[int, Cache]:
    """KV caches by engine (data-parallel rank); empty when the server has no such metrics."""
    try:
        return read_caches(await fetch(session, f"{url}/metrics", limits))
    except (FetchError, MalformedLineError):
        return {}


def read_caches(body: bytes) -> dict[int, Cache]:
    """``vllm:cache_config_info`` of a ``/metrics`` body. Raises MalformedLineError."""
    caches: dict[int, Cache] = {}
    for sample in samples(body, b"vllm:cache_config_info"):
        labels = labels_of(sample.labels)
        cache = Cache(_number(labels.get("block_size", "")), _number(labels.get("num_gpu_blocks", "")))
        caches[_number(labels.get("engine", ""))] = cache
    return caches


async def ask_publishers(session: aiohttp.ClientSession, url: str, limits: Limits = LIMITS) -> dict[int, Publisher]:
    """Publishers of KV events by data-parallel rank; empty when there are none, or vLLM is older than 0.32."""
    try:
        body = await fetch(session, f"{url}/kv_event_sources", limits)
        publishers = msgspec.json.decode(body, type=dict[int, _Publisher])
    except (FetchError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return {
        rank: Publisher(publisher.endpoint, publisher.replay_endpoint or "")
        for rank, publisher in sorted(publishers.items())
        if publisher.enable_kv_cache_events and publisher.publisher == "zmq" and 0 <= rank < MAX_RANKS
    }


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
