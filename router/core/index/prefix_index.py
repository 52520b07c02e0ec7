"""The prefix index: for any prompt, how many of its blocks each replica holds from the start.

    engine events ──► per replica: engine hash ─► block ──┐
    dispatches ─────► predicted, remembered: block hash ──┴─► blocks: block hash ─► set of holders ◄── match

One table of blocks for all replicas (`holders`), one map of engine hashes for each (`events`), and what the
router itself knows (`routed`). All of it is NumPy arrays that compiled kernels work on; Python only enlarges an
array when a kernel stops because it is full, and lets the kernel go on.

A replica is a slot in ``0 .. max_replicas - 1``. Slots are recycled: `drop` comes before reuse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

import numpy as np

from router.core.index import events, routed, snapshot
from router.core.index.batch import KvBatch
from router.core.index.events import EngineBlocks
from router.core.index.holders import ALL_PLANES, MAX_SLOTS, WORD_BITS, new_holders, widened
from router.core.index.kernels import compiled
from router.core.index.matching import Match
from router.core.index.routed import History
from router.core.index.table import enlarge
from router.core.types import Hashes, Tier

_NUMBERS = 1 << 32
"""Predictions are numbered modulo this."""


@dataclass(slots=True, frozen=True)
class Applied:
    """What a batch did. Block counts are references: a block that is stored twice counts twice."""

    stored_blocks: int
    removed_blocks: int
    clears: int
    unknown_parents: int
    """Stored events that could not be entered because the index does not know the parent: events were lost."""
    orphaned_blocks: int
    """The blocks of those events."""
    unknown_offloaded: int
    """Blocks stored in an offload tier without token ids and not known from another tier."""
    unknown_removed: int
    """Removals of blocks that were not known in that tier."""


@dataclass(slots=True)
class _Replica:
    """What is kept of one slot."""

    owned: EngineBlocks = field(default_factory=events.new_engine_blocks)
    history: History | None = None

    @property
    def held_blocks(self) -> int:
        return self.owned.entries.size + (self.history.known.size if self.history else 0)

    @property
    def nbytes(self) -> int:
        return self.owned.nbytes + (self.history.nbytes if self.history else 0)


class PrefixIndex:
    """See the module. Not thread-safe: kernels release the GIL, so calls must come from one thread at a time."""

    def __init__(self, max_replicas: int = 1024) -> None:
        if not 1 <= max_replicas <= MAX_SLOTS:
            raise ValueError(f"max_replicas must be 1 to {MAX_SLOTS}, not {max_replicas}")
        self._kernels = compiled()
        self._max_replicas = max_replicas
        self._counts_shape = (4, -(-max_replicas // WORD_BITS) * WORD_BITS)
        self._holders = new_holders()
        self._replicas: dict[int, _Replica] = {}
        self._predictions: list[tuple[float, int, int, Hashes]] = []
        """A heap of (expires_s, number, slot, hashes)."""
        self._last_number = 0

    def apply(self, slot: int, batch: KvBatch) -> Applied:
        """Apply a replica's events, in order."""
        replica = self._replica(slot)
        if batch.events["tier"].any():
            self._add_tiers(replica)
        progress, arrays = events.new_progress(), batch.arrays
        while not self._kernels.apply_events(self._holders, replica.owned, slot, arrays, progress):
            self._make_room(replica)
        return Applied(*progress.tally.tolist())

    def match(self, hashes: Hashes) -> Match:
        """Blocks of the prompt that each slot holds from its start; exact, holes included."""
        counts = np.zeros(self._counts_shape, np.int32)
        self._kernels.match_prefix(self._holders, _as_hashes(hashes), counts)
        return Match(counts)

    def predict(self, slot: int, hashes: Hashes, expires_s: float) -> None:
        """A request with these blocks was just sent to ``slot``: count on them until ``expires_s``.

        A block that the replica reports meanwhile stays for as long as the replica says. The newest prediction
        of a block decides when it expires. ``hashes`` is kept and must not be changed.
        """
        replica, hashes = self._replica(slot), _as_hashes(hashes)
        self._last_number = number = (self._last_number + 1) % _NUMBERS
        while not self._kernels.predict(self._holders, slot, hashes, number):
            self._make_room(replica)
        heappush(self._predictions, (expires_s, number, slot, hashes))

    def expire(self, now: float) -> None:
        """Withdraw the predictions whose time has come."""
        while self._predictions and self._predictions[0][0] <= now:
            _, number, slot, hashes = heappop(self._predictions)
            self._withdraw(slot, hashes, number)

    def remember(self, slot: int, hashes: Hashes, capacity_blocks: int) -> None:
        """A replica without events was sent these blocks: it holds the last ``capacity_blocks`` of all."""
        replica, hashes = self._replica(slot), _as_hashes(hashes)
        if replica.history is None:
            replica.history = routed.new_history()
        while not self._kernels.remember(self._holders, replica.history, slot, hashes, capacity_blocks):
            self._make_room(replica)

    def drop(self, slot: int) -> None:
        """Forget everything about a slot."""
        replica = self._replicas.get(slot)
        if replica is None:
            return
        for _, number, owner, hashes in self._predictions:
            if owner == slot:
                self._withdraw(slot, hashes, number)
        self._predictions = [entry for entry in self._predictions if entry[2] != slot]
        heapify(self._predictions)
        while not self._kernels.release_all(self._holders, replica.owned, slot):
            self._make_room(replica)
        if replica.history:
            while not self._kernels.forget_oldest(self._holders, replica.history, slot, 0):
                self._make_room(replica)
        del self._replicas[slot]

    def held_blocks(self, slot: int) -> int:
        """Blocks that the slot reported or that are remembered for it; predictions do not count."""
        replica = self._replicas.get(slot)
        return replica.held_blocks if replica else 0

    @property
    def held_blocks_total(self) -> int:
        """Sum of `held_blocks` over all slots."""
        return sum(replica.held_blocks for replica in self._replicas.values())

    @property
    def distinct_blocks(self) -> int:
        """Different blocks that somebody holds or is predicted to hold."""
        return self._holders.blocks.size

    @property
    def memory_bytes(self) -> int:
        """Memory of all arrays, room for growth included."""
        predictions = sum(hashes.nbytes for _, _, _, hashes in self._predictions)
        replicas = sum(replica.nbytes for replica in self._replicas.values())
        return self._holders.nbytes + replicas + predictions

    def snapshot(self) -> bytes:
        """Everything but predictions, for `load`."""
        return snapshot.dump(self._holders, {slot: (each.owned, each.history) for slot, each in self._replicas.items()})

    def load(self, data: bytes) -> None:
        """Replace the contents by a snapshot's. Raises SnapshotError, and changes nothing, when it is bad."""
        saved_replicas = snapshot.parse(data, self._max_replicas)
        self._holders, self._replicas, self._predictions = new_holders(), {}, []
        for saved in saved_replicas:
            replica = self._replica(saved.slot)
            if saved.refs.shape[1] > 1:
                self._add_tiers(replica)
            blocks = saved.engine_hashes, saved.block_hashes, saved.refs
            while not self._kernels.restore(self._holders, replica.owned, saved.slot, *blocks):
                self._make_room(replica)
            if len(saved.remembered):
                self.remember(saved.slot, saved.remembered, len(saved.remembered))

    def _replica(self, slot: int) -> _Replica:
        replica = self._replicas.get(slot)
        if replica is None:
            if not 0 <= slot < self._max_replicas:
                raise IndexError(f"slot {slot} is outside 0..{self._max_replicas - 1}")
            replica = self._replicas[slot] = _Replica()
            words = slot // WORD_BITS + 1
            if words > self._holders.members.shape[2]:
                self._holders = widened(self._holders, words=words)
        return replica

    def _add_tiers(self, replica: _Replica) -> None:
        """From the first offloaded block on, its replica counts references in every tier."""
        if self._holders.members.shape[1] < ALL_PLANES:
            self._holders = widened(self._holders, planes=ALL_PLANES)
        if replica.owned.refs.shape[1] < len(Tier):
            replica.owned = events.with_tiers(replica.owned)

    def _withdraw(self, slot: int, hashes: Hashes, number: int) -> None:
        while not self._kernels.expire(self._holders, slot, hashes, number):
            self._make_room(self._replicas[slot])

    def _make_room(self, replica: _Replica) -> None:
        """Enlarge whatever is full."""
        holders, owned, history = self._holders, replica.owned, replica.history
        for shared in (holders.blocks, holders.repeats, holders.predictions):
            if shared.is_full:
                enlarge(shared)
        if holders.sets.is_full:
            enlarge(holders.sets)
            self._holders = widened(holders)
        if owned.entries.is_full:
            enlarge(owned.entries)
            owned.refs.resize((len(owned.entries.nodes), owned.refs.shape[1]), refcheck=False)
        if history and history.known.is_full:
            enlarge(history.known)
            history.links.resize((len(history.known.nodes), 2), refcheck=False)


def _as_hashes(hashes: Hashes) -> Hashes:
    return np.ascontiguousarray(hashes, np.uint64)


def warm_up() -> None:
    """Compile, or load from the cache on disk, all that the index runs."""
    compiled()
