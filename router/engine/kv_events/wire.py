"""vLLM's KV event messages, every form from 0.9 to 0.33, decoded into one `KvBatch` for many messages.

A message is msgpack ``[timestamp, [event, ...], rank]``. An event is an array ``[tag, field, ...]`` up to vLLM
0.23 and a map ``{"type": tag, field: value, ...}`` from 0.24 on; fields with default values are left out, new
ones keep being added. Hashes are integers of 64 bits, signed or not, or byte strings.

Only blocks of full-attention groups enter: a prefix can be reused from them alone, whereas those of a sliding
window or of a state-space layer are worth nothing by themselves. Removals name only a group's number, so the
decoder remembers which groups are which; hence one decoder for each replica.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from struct import Struct as Layout
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from router.core.index.batch import CLEARED, EVENT, REMOVED, STORED, KvBatch
from router.core.index.hashing import NO_MEDIA, chain_seed
from router.core.types import Tier
from router.engine.kv_events.extra_keys import read_extra_keys
from router.engine.kv_events.msgpack_arrays import MALFORMED, fill_events

POISONED_MESSAGE = "poisoned_message"
UNKNOWN_EVENT = "unknown_event"
UNKNOWN_MEDIUM = "unknown_medium"
OTHER_GROUP = "other_group"
"""An event of a group that is not full attention."""
SPARSE_EVENT = "sparse_event"
"""A stored event whose token ids are not those of its blocks, all of them and no other."""

_FULL_ATTENTION = frozenset({"full_attention", "mla_attention", "sink_full_attention"})
_TIERS = {"GPU": Tier.GPU, "CPU": Tier.CPU, "STORAGE": Tier.DISK, "DISK": Tier.DISK}
_MASK_64 = (1 << 64) - 1
_EMPTY_ARRAY = b"\x90"
_NO_KEYS: tuple[int, ...] = ()
_ROW = Layout("=QQ16x4xiBBB5x")
"""An `EVENT`: parent, seed, block_size, kind, tier, has_parent; a kernel fills in the rest."""
_CLEARED_ROW = _ROW.pack(0, 0, 0, CLEARED, Tier.GPU, False)

_Hash = int | bytes
_Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_ExtraKeys = list[list[Any] | None] | None


class _StoredMap(msgspec.Struct, tag_field="type", tag="BlockStored", gc=False):
    block_hashes: msgspec.Raw
    token_ids: msgspec.Raw
    block_size: _Size
    parent_block_hash: _Hash | None = None
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: _ExtraKeys = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None


class _RemovedMap(msgspec.Struct, tag_field="type", tag="BlockRemoved", gc=False):
    block_hashes: msgspec.Raw
    medium: str | None = None
    group_idx: int | None = None


class _ClearedMap(msgspec.Struct, tag_field="type", tag="AllBlocksCleared", gc=False):
    pass


class _StoredArray(msgspec.Struct, array_like=True, tag="BlockStored", gc=False):
    block_hashes: msgspec.Raw
    parent_block_hash: _Hash | None
    token_ids: msgspec.Raw
    block_size: _Size
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: _ExtraKeys = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None


class _RemovedArray(msgspec.Struct, array_like=True, tag="BlockRemoved", gc=False):
    block_hashes: msgspec.Raw
    medium: str | None = None
    group_idx: int | None = None


class _ClearedArray(msgspec.Struct, array_like=True, tag="AllBlocksCleared", gc=False):
    pass


_MapEvent = _StoredMap | _RemovedMap | _ClearedMap
_ArrayEvent = _StoredArray | _RemovedArray | _ClearedArray
_Event = _MapEvent | _ArrayEvent
_STORED = (_StoredMap, _StoredArray)
_REMOVED = (_RemovedMap, _RemovedArray)
_TAGS = frozenset({"BlockStored", "BlockRemoved", "AllBlocksCleared"})


class _MapMessage(msgspec.Struct, array_like=True, gc=False):
    timestamp: float
    events: list[_MapEvent]


class _ArrayMessage(msgspec.Struct, array_like=True, gc=False):
    timestamp: float
    events: list[_ArrayEvent]


class _RawMessage(msgspec.Struct, array_like=True):
    timestamp: float
    events: list[msgspec.Raw]


class _MapTag(msgspec.Struct):
    type: str


class _ArrayTag(msgspec.Struct, array_like=True):
    type: str


_decode_maps = msgspec.msgpack.Decoder(_MapMessage).decode
_decode_arrays = msgspec.msgpack.Decoder(_ArrayMessage).decode
_decode_raw = msgspec.msgpack.Decoder(_RawMessage).decode
_decode_map = msgspec.msgpack.Decoder(_MapEvent).decode
_decode_array = msgspec.msgpack.Decoder(_ArrayEvent).decode
_decode_map_tag = msgspec.msgpack.Decoder(_MapTag).decode
_decode_array_tag = msgspec.msgpack.Decoder(_ArrayTag).decode


class _PoisonedError(ValueError):
    """One of the messages is not what an engine sends."""


_UNREADABLE = (ValueError, RecursionError)
"""All that msgspec raises for bytes from outside, text that is not UTF-8 and endless nesting included."""


class EventDecoder:
    """Decodes the event messages of one replica that serves ``model`` (the name that enters block hashes)."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._seed = chain_seed(model)
        self._full_attention: dict[int, bool] = {}
        """What stored events said of each group."""
        self._decode_message: Callable[[bytes], _MapMessage | _ArrayMessage] = _decode_maps

    def decode(self, payloads: Sequence[bytes]) -> KvBatch:
        """The events of many messages, in order; what is left out is counted in ``ignored``.

        A message that makes no sense is left out whole, and the others still count. Never raises.
        """
        try:
            return self._assemble([event for payload in payloads for event in self._events_of(payload)], Counter())
        except _UNREADABLE:
            return KvBatch.join(self._decode_one(payload) for payload in payloads)

    def _decode_one(self, payload: bytes) -> KvBatch:
        ignored: Counter[str] = Counter()
        try:
            return self._assemble(_known_events_of(payload, ignored), ignored)
        except _UNREADABLE:
            return self._assemble([], Counter({POISONED_MESSAGE: 1}))

    def _assemble(self, decoded: Iterable[_Event], ignored: Counter[str]) -> KvBatch:
        rows: list[bytes] = []
        hashes: list[msgspec.Raw | bytes] = []
        tokens: list[msgspec.Raw] = []
        media: dict[int, Sequence[int]] = {}
        for event in decoded:
            if isinstance(event, _STORED):
                tier, accepted = _tier(event.medium), self._classify(event.group_idx, event.kv_cache_spec_kind)
            elif isinstance(event, _REMOVED):
                tier, accepted = _tier(event.medium), self._classify(event.group_idx, None)
            else:
                rows.append(_CLEARED_ROW)
                hashes.append(_EMPTY_ARRAY)
                continue
            if tier is None:
                ignored[UNKNOWN_MEDIUM] += 1
            elif not accepted:
                ignored[OTHER_GROUP] += 1
            elif isinstance(event, _STORED):
                seed, keys = self._identity(event)
                if any(keys):
                    media[len(rows)] = keys
                parent = event.parent_block_hash
                rows.append(_ROW.pack(_word(parent), seed, event.block_size, STORED, tier, parent is not None))
                hashes.append(event.block_hashes)
                tokens.append(event.token_ids)
            else:
                rows.append(_ROW.pack(0, 0, 0, REMOVED, tier, False))
                hashes.append(event.block_hashes)
        return _batch(b"".join(rows), b"".join(hashes), b"".join(tokens), media, ignored)

    def _classify(self, group: int | None, kind: str | None) -> bool:
        """Whether a group is full attention; without any word on that, whether it is the first."""
        if kind is None:
            return group is None or self._full_attention.get(group, group == 0)
        accepted = kind in _FULL_ATTENTION
        if group is not None:
            self._full_attention[group] = accepted
        return accepted

    def _identity(self, event: _StoredMap | _StoredArray) -> tuple[int, Sequence[int]]:
        """The chain seed of the event, and the media key of each block; no keys when there is no media."""
        has_keys = event.extra_keys is not None and any(event.extra_keys)
        if not has_keys and event.lora_id is None and not event.lora_name:
            return self._seed, _NO_KEYS
        lora = event.lora_name or ("" if event.lora_id is None else f"lora_id:{event.lora_id}")
        salt, block_keys = read_extra_keys(
            event.extra_keys or (), event.lora_name, starts_prompt=event.parent_block_hash is None
        )
        return chain_seed(self._model, lora, salt), block_keys

    def _events_of(self, payload: bytes) -> Sequence[_Event]:
        """The events of a message of either form. Raises msgspec.DecodeError."""
        try:
            return self._decode_message(payload).events
        except msgspec.ValidationError:
            other = _decode_arrays if self._decode_message is _decode_maps else _decode_maps
            events = other(payload).events
            self._decode_message = other
            return events


def _known_events_of(payload: bytes, ignored: Counter[str]) -> Iterator[_Event]:
    """The same one by one, without events of types that are not known. Raises one of _UNREADABLE."""
    for raw in _decode_raw(payload).events:
        code = memoryview(raw)[0]
        is_map = code & 0xF0 == 0x80 or code in (0xDE, 0xDF)
        tag = _decode_map_tag(raw).type if is_map else _decode_array_tag(raw).type
        if tag in _TAGS:
            yield _decode_map(raw) if is_map else _decode_array(raw)
        else:
            ignored[UNKNOWN_EVENT] += 1


def _tier(medium: str | None) -> int | None:
    return Tier.GPU if medium is None else _TIERS.get(medium.upper())


def _word(engine_hash: int | bytes | None) -> int:
    """A hash as 64 bits: an integer of either sign, or the last eight of its bytes."""
    if isinstance(engine_hash, bytes):
        return int.from_bytes(engine_hash[-8:], "big")
    return (engine_hash or 0) & _MASK_64


def _batch(
    rows: bytes, hashes: bytes, tokens: bytes, media: Mapping[int, Sequence[int]], ignored: Counter[str]
) -> KvBatch:
    """Raises _PoisonedError when the arrays hold anything but hashes and token ids."""
    events = np.frombuffer(bytearray(rows), EVENT)
    engine_hashes = np.empty(len(hashes), np.uint64)
    token_ids = np.empty(len(tokens), np.uint32)
    source = np.empty(len(events), np.int32)
    used = np.zeros(2, np.int64)
    hash_bytes, token_bytes = np.frombuffer(hashes, np.uint8), np.frombuffer(tokens, np.uint8)
    kept = fill_events(events, hash_bytes, token_bytes, source, engine_hashes, token_ids, used)
    if kept == MALFORMED:
        raise _PoisonedError
    if kept < len(events):
        ignored[SPARSE_EVENT] += len(events) - kept
    events, engine_hashes, token_ids = events[:kept], engine_hashes[: used[0]], token_ids[: used[1]]
    return KvBatch(events, engine_hashes, token_ids, _media_keys(events, source, media, used[0]), ignored)


def _media_keys(
    events: NDArray[np.void], source: NDArray[np.int32], media: Mapping[int, Sequence[int]], blocks: int
) -> NDArray[np.uint64]:
    if not media:
        return NO_MEDIA
    block_keys = np.zeros(blocks, np.uint64)
    for event, row in zip(events, source, strict=False):
        keys = media.get(int(row))
        if keys:
            if len(keys) != event["blocks"]:
                raise _PoisonedError
            first = event["first_block"]
            block_keys[first : first + len(keys)] = keys
    return block_keys
