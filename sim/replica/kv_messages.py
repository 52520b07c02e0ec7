"""KV events as vLLM writes them to the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sim.engine import BlocksRemoved, BlocksStored, KvEvent, Request

MEDIUM = "GPU"

_OPTIONAL = str | None
_STORED: list[tuple[str, Any] | tuple[str, Any, Any]] = [
    ("block_hashes", list[int]),
    ("parent_block_hash", int | None),
    ("token_ids", list[int]),
    ("block_size", int),
    ("lora_id", int | None),
    ("medium", _OPTIONAL),
    ("lora_name", _OPTIONAL),
    ("extra_keys", list[Any] | None, None),
    ("group_idx", int | None, None),
    ("kv_cache_spec_kind", _OPTIONAL, None),
]
_STORED_SINCE_0_24: list[tuple[str, Any, Any]] = [("session_id", _OPTIONAL, None)]
_REMOVED: list[tuple[str, Any] | tuple[str, Any, Any]] = [
    ("block_hashes", list[int]),
    ("medium", _OPTIONAL),
    ("group_idx", int | None, None),
]


class EventForm(StrEnum):
    """How one event is written: ``map`` from vLLM 0.24 on, ``array`` before."""

    MAP = "map"
    ARRAY = "array"


@dataclass(slots=True, frozen=True)
class Origin:
    """What a request's events say beside its hashes."""

    tokens: NDArray[np.uint32]
    """Prompt and planned output."""
    cache_salt: str = ""
    session_id: str | None = None


class EventWriter:
    """Turns events of the engine model into what goes into a batch."""

    def __init__(self, form: EventForm, block_size_tokens: int) -> None:
        self._block_size = block_size_tokens
        newest = form is EventForm.MAP
        options: dict[str, Any] = {"array_like": not newest, "omit_defaults": True, "tag": True}
        fields = [*_STORED, *_STORED_SINCE_0_24] if newest else _STORED
        self._stored: Callable[..., msgspec.Struct] = msgspec.defstruct("BlockStored", fields, **options)
        self._removed: Callable[..., msgspec.Struct] = msgspec.defstruct("BlockRemoved", _REMOVED, **options)
        self._cleared: Callable[..., msgspec.Struct] = msgspec.defstruct("AllBlocksCleared", [], **options)
        self._newest = newest

    def events(self, events: Sequence[KvEvent], origin_of: Callable[[Request], Origin]) -> list[msgspec.Struct]:
        """Events in their order. ``origin_of`` knows the requests that stored blocks."""
        written: list[msgspec.Struct] = []
        for event in events:
            if isinstance(event, BlocksStored):
                written.append(self._store(event, origin_of(event.request)))
            elif isinstance(event, BlocksRemoved):
                written += [self._removed([one], MEDIUM, 0) for one in event.hashes.tolist()]
            else:
                written.append(self._cleared())
        return written

    def _store(self, event: BlocksStored, origin: Origin) -> msgspec.Struct:
        first, end = event.first_block, event.first_block + event.blocks
        hashes = event.request.block_hashes
        extra_keys: list[list[str] | None] = [None] * event.blocks
        if first == 0 and origin.cache_salt:
            extra_keys[0] = [origin.cache_salt]
        session = {"session_id": origin.session_id} if self._newest else {}
        return self._stored(
            hashes[first:end].tolist(),
            int(hashes[first - 1]) if first else None,
            origin.tokens[first * self._block_size : end * self._block_size].tolist(),
            self._block_size,
            None,
            MEDIUM,
            None,
            extra_keys,
            0,
            "full_attention",
            **session,
        )
