"""Saving and restoring what replicas hold.

    bytes 0..3    "WPI1": the format's name and version
    bytes 4..11   XXH3-64 of the rest, little-endian
    rest          msgpack of `_Snapshot`; arrays are little-endian bytes

Block hashes are saved as they are, so a snapshot names the hash function by what it makes of one fixed block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from router.core.index.events import TIERS, EngineBlocks, plane_of
from router.core.index.hashing import hash_blocks
from router.core.index.holders import Holders, hold
from router.core.index.jit import as_int, kernel
from router.core.index.routed import History, remembered_hashes
from router.core.index.table import USED, find, find_or_insert, has_room, insert
from router.core.types import Hashes

_MAGIC = b"WPI1"
_HEADER_BYTES = 12


class SnapshotError(ValueError):
    """The bytes are not a snapshot that this version can load; start with an empty index instead."""


class _ReplicaBlocks(msgspec.Struct):
    slot: int
    tiers: int
    engine_hashes: bytes
    block_hashes: bytes
    refs: bytes
    remembered: bytes


class _Snapshot(msgspec.Struct):
    hash_function: int
    replicas: list[_ReplicaBlocks]


@dataclass(slots=True, frozen=True)
class SavedReplica:
    """One replica's part of a snapshot, checked."""

    slot: int
    engine_hashes: Hashes
    block_hashes: Hashes
    refs: NDArray[np.uint16]
    """[block, tier]"""
    remembered: Hashes
    """Newest first."""


def dump(holders: Holders, replicas: Mapping[int, tuple[EngineBlocks, History | None]]) -> bytes:
    """A snapshot of the replicas' blocks, by slot."""
    saved = []
    for slot, (owned, history) in replicas.items():
        nodes = owned.entries.nodes[: owned.entries.meta[USED]]
        live = nodes["value"] != 0
        refs = owned.refs[: len(nodes)][live]
        saved.append(
            _ReplicaBlocks(
                slot=slot,
                tiers=refs.shape[1],
                engine_hashes=_to_bytes(nodes["key"][live], "<u8"),
                block_hashes=_to_bytes(holders.blocks.nodes["key"][nodes["value"][live]], "<u8"),
                refs=_to_bytes(refs, "<u2"),
                remembered=_to_bytes(remembered_hashes(history), "<u8") if history else b"",
            )
        )
    body = msgspec.msgpack.encode(_Snapshot(_hash_function(), saved))
    return _MAGIC + xxhash.xxh3_64_digest(body)[::-1] + body


def parse(data: bytes, max_replicas: int) -> list[SavedReplica]:
    """The replicas of a snapshot. Raises SnapshotError."""
    body = data[_HEADER_BYTES:]
    if data[:4] != _MAGIC:
        raise SnapshotError("not a prefix index snapshot of this version")
    if data[4:_HEADER_BYTES] != xxhash.xxh3_64_digest(body)[::-1]:
        raise SnapshotError("the snapshot is damaged: its checksum differs")
    try:
        snapshot = msgspec.msgpack.decode(body, type=_Snapshot)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"the snapshot cannot be read: {error}") from error
    if snapshot.hash_function != _hash_function():
        raise SnapshotError("the snapshot was made with another block hash function")
    return [_checked(saved, max_replicas) for saved in snapshot.replicas]


@kernel
def restore(
    holders: Holders,
    owned: EngineBlocks,
    slot: int,
    engine_hashes: Hashes,
    block_hashes: Hashes,
    refs: NDArray[np.uint16],
) -> bool:
    """Enter saved blocks of an empty replica. False: a table is full; call again to go on."""
    blocks, entries = holders.blocks, owned.entries
    for i in range(len(engine_hashes)):
        entry = find(entries, engine_hashes[i])
        if entry == 0:
            if not (has_room(blocks) and has_room(entries)):
                return False
            block = find_or_insert(blocks, block_hashes[i])
            entry = insert(entries, engine_hashes[i], block)
        block = as_int(entries.nodes[entry].value)
        for tier in range(refs.shape[1]):
            if refs[i, tier] != 0 and owned.refs[entry, tier] == 0:
                if not hold(holders, block, slot, plane_of(tier)):
                    return False
                owned.refs[entry, tier] = refs[i, tier]
    return True


def _checked(saved: _ReplicaBlocks, max_replicas: int) -> SavedReplica:
    if not 0 <= saved.slot < max_replicas:
        raise SnapshotError(f"slot {saved.slot} of the snapshot is outside 0..{max_replicas - 1}")
    if saved.tiers not in (1, TIERS):
        raise SnapshotError(f"the snapshot has {saved.tiers} tiers")
    engine_hashes = _hashes(saved.engine_hashes)
    block_hashes = _hashes(saved.block_hashes)
    refs = _array(saved.refs, "<u2").astype(np.uint16)
    if len(engine_hashes) != len(block_hashes) or len(refs) != len(engine_hashes) * saved.tiers:
        raise SnapshotError(f"the arrays of slot {saved.slot} have different lengths")
    refs = refs.reshape(-1, saved.tiers)
    if not refs.any(axis=1).all():
        raise SnapshotError(f"slot {saved.slot} has blocks that are in no tier")
    return SavedReplica(saved.slot, engine_hashes, block_hashes, refs, _hashes(saved.remembered))


def _hash_function() -> int:
    return int(hash_blocks(np.arange(16, dtype=np.uint32), 16, 0)[0])


def _to_bytes(array: NDArray[Any], dtype: str) -> bytes:
    return array.astype(dtype, copy=False).tobytes()


def _hashes(data: bytes) -> Hashes:
    return _array(data, "<u8").astype(np.uint64)


def _array(data: bytes, dtype: str) -> NDArray[Any]:
    if len(data) % np.dtype(dtype).itemsize:
        raise SnapshotError("an array of the snapshot is cut short")
    return np.frombuffer(data, dtype)
