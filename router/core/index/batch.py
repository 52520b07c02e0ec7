"""KV events of one replica, flattened into arrays that one kernel call can apply.

An event is a row of ``events``; the blocks that it names are ``engine_hashes[first_block : first_block + blocks]``:

    events         [ stored, first_block 0, blocks 3 | removed, first_block 3, blocks 1 | cleared ]
    engine_hashes  [ e0 e1 e2                        | e7                               ]
    media          [ m0 m1 m2                        | 0                                ]  or empty: no media at all
    token_ids      [ tokens of e0, e1, e2            ]  the event's start at first_token
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index.hashing import NO_MEDIA
from router.core.types import Hashes, Tier, Tokens

STORED = 0
REMOVED = 1
CLEARED = 2

EVENT = np.dtype(
    [
        ("parent", np.uint64),  # engine hash of the block before the first one
        ("seed", np.uint64),  # chain seed; used when there is no parent
        ("first_block", np.int64),
        ("first_token", np.int64),
        ("blocks", np.int32),
        ("block_size", np.int32),  # tokens per block; 0: the event names known blocks and has no tokens
        ("kind", np.uint8),  # STORED, REMOVED, CLEARED
        ("tier", np.uint8),  # Tier
        ("has_parent", np.uint8),
    ],
    align=True,
)


class EventArrays(NamedTuple):
    """The arrays of a `KvBatch`, as kernels take them."""

    events: NDArray[np.void]
    engine_hashes: Hashes
    token_ids: Tokens
    media: NDArray[np.uint64]


@dataclass(slots=True, frozen=True)
class KvBatch:
    """Events in the order they happened. ``len(batch)`` is their number."""

    events: NDArray[np.void]
    """`EVENT` rows."""
    engine_hashes: Hashes
    token_ids: Tokens
    media: NDArray[np.uint64] = field(default_factory=lambda: NO_MEDIA)
    """Media key of each block (0: none), or empty when no block has any."""
    ignored: Counter[str] = field(default_factory=Counter)
    """What the decoder left out, by reason."""

    def __len__(self) -> int:
        return len(self.events)

    @property
    def arrays(self) -> EventArrays:
        return EventArrays(
            np.ascontiguousarray(self.events, EVENT),
            np.ascontiguousarray(self.engine_hashes, np.uint64),
            np.ascontiguousarray(self.token_ids, np.uint32),
            np.ascontiguousarray(self.media, np.uint64),
        )

    @classmethod
    def stored(
        cls,
        engine_hashes: Sequence[int] | Hashes,
        token_ids: Sequence[int] | Tokens = (),
        block_size_tokens: int = 0,
        *,
        parent: int | None = None,
        seed: int = 0,
        tier: Tier = Tier.GPU,
        media: Sequence[int] | NDArray[np.uint64] = (),
    ) -> KvBatch:
        """One stored event. Without token ids it adds a tier to blocks that are known.

        Raises ValueError when the token ids are not ``block_size_tokens`` for each engine hash.
        """
        hashes = np.asarray(engine_hashes, np.uint64)
        tokens = np.asarray(token_ids, np.uint32)
        if len(tokens) != len(hashes) * block_size_tokens:
            raise ValueError(f"{len(hashes)} blocks of {block_size_tokens} tokens cannot hold {len(tokens)} token ids")
        if len(media) not in (0, len(hashes)):
            raise ValueError(f"{len(media)} media keys for {len(hashes)} blocks: give one for each, or none")
        event = _event(
            kind=STORED,
            tier=tier,
            blocks=len(hashes),
            block_size=block_size_tokens,
            seed=seed,
            parent=parent or 0,
            has_parent=parent is not None,
        )
        return cls(event, hashes, tokens, np.asarray(media, np.uint64))

    @classmethod
    def removed(cls, engine_hashes: Sequence[int] | Hashes, *, tier: Tier = Tier.GPU) -> KvBatch:
        """One removed event."""
        hashes = np.asarray(engine_hashes, np.uint64)
        return cls(_event(kind=REMOVED, tier=tier, blocks=len(hashes)), hashes, np.empty(0, np.uint32))

    @classmethod
    def cleared(cls) -> KvBatch:
        """One event that empties every tier of the replica."""
        return cls(_event(kind=CLEARED), np.empty(0, np.uint64), np.empty(0, np.uint32))

    @classmethod
    def join(cls, batches: Iterable[KvBatch]) -> KvBatch:
        """The events of several batches of one replica, in order."""
        parts = list(batches)
        if len(parts) == 1:
            return parts[0]
        events = np.concatenate([np.empty(0, EVENT), *(part.events for part in parts)])
        hashes = np.concatenate([np.empty(0, np.uint64), *(part.engine_hashes for part in parts)])
        tokens = np.concatenate([np.empty(0, np.uint32), *(part.token_ids for part in parts)])
        media = NO_MEDIA
        if any(len(part.media) for part in parts):
            media = np.zeros(len(hashes), np.uint64)
        ignored: Counter[str] = Counter()
        event = block = token = 0
        for part in parts:
            rows = events[event : event + len(part)]
            rows["first_block"] += block
            rows["first_token"] += token
            if len(part.media):
                media[block : block + len(part.media)] = part.media
            event += len(part)
            block += len(part.engine_hashes)
            token += len(part.token_ids)
            ignored += part.ignored
        return cls(events, hashes, tokens, media, ignored)


def _event(**fields: Any) -> NDArray[np.void]:
    event = np.zeros(1, EVENT)
    for name, value in fields.items():
        event[name] = value
    return event
