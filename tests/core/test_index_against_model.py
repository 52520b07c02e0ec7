"""The prefix index against a plain model that keeps every block's whole token path in dicts."""

from __future__ import annotations

from collections import Counter, OrderedDict
from itertools import product

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.core.index.batch import CLEARED, REMOVED, KvBatch
from router.core.index.hashing import hash_blocks
from router.core.index.prefix_index import PrefixIndex
from router.core.types import Hashes, Tier

BLOCK_SIZE = 2
SLOTS = (0, 130)
DEPTH = 4

Path = tuple[int, ...]  # one small number per block, from the start of the prompt


class Model:
    """What each replica holds, by block path."""

    def __init__(self) -> None:
        self.engine: dict[int, dict[int, Path]] = {}
        self.refs: dict[int, Counter[tuple[int, Tier]]] = {}
        self.predicted: dict[tuple[int, Path], float] = {}
        self.history: dict[int, OrderedDict[Path, None]] = {}

    def store(self, slot: int, hashes: list[int], paths: list[Path] | None, parent: int | None, tier: Tier) -> None:
        engine, refs = self.engine.setdefault(slot, {}), self.refs.setdefault(slot, Counter())
        known = parent is None or parent in engine
        for i, engine_hash in enumerate(hashes):
            known = known or engine_hash in engine
            if engine_hash not in engine and (paths is None or not known):
                continue
            path = engine.setdefault(engine_hash, paths[i] if paths else ())
            refs[engine_hash, tier] += 1
            if tier is Tier.GPU:
                self.predicted.pop((slot, path), None)

    def remove(self, slot: int, hashes: list[int], tier: Tier) -> None:
        engine, refs = self.engine.setdefault(slot, {}), self.refs.setdefault(slot, Counter())
        for engine_hash in hashes:
            if refs[engine_hash, tier]:
                refs[engine_hash, tier] -= 1
                if not any(refs[engine_hash, t] for t in Tier):
                    del engine[engine_hash]

    def clear(self, slot: int) -> None:
        self.engine[slot], self.refs[slot] = {}, Counter()

    def drop(self, slot: int) -> None:
        self.clear(slot)
        self.history.pop(slot, None)
        self.predicted = {key: value for key, value in self.predicted.items() if key[0] != slot}

    def predict(self, slot: int, paths: list[Path], expires_s: float) -> None:
        for path in paths:
            if self.tier(slot, path, predicted=False) is not Tier.GPU:
                self.predicted[slot, path] = expires_s

    def expire(self, now: float) -> None:
        self.predicted = {key: expires_s for key, expires_s in self.predicted.items() if expires_s > now}

    def remember(self, slot: int, paths: list[Path], capacity: int) -> None:
        history = self.history.setdefault(slot, OrderedDict())
        for path in reversed(paths[:capacity]):
            history[path] = None
            history.move_to_end(path)
            self.predicted.pop((slot, path), None)
        while len(history) > capacity:
            history.popitem(last=False)

    def tier(self, slot: int, path: Path, predicted: bool = True) -> Tier | None:
        held = {
            tier
            for engine_hash, known in self.engine.get(slot, {}).items()
            for tier in Tier
            if known == path and self.refs[slot][engine_hash, tier]
        }
        if path in self.history.get(slot, ()) or (predicted and (slot, path) in self.predicted):
            held.add(Tier.GPU)
        return min(held, default=None)

    def match(self, slot: int, path: Path) -> Counter[Tier]:
        found: Counter[Tier] = Counter()
        for length in range(1, len(path) + 1):
            tier = self.tier(slot, path[:length])
            if tier is None:
                break
            found[tier] += 1
        return found

    def paths(self) -> set[Path]:
        reported = {path for engine in self.engine.values() for path in engine.values()}
        remembered = {path for history in self.history.values() for path in history}
        return reported | remembered | {path for _, path in self.predicted}


def tokens_of(path: Path) -> list[int]:
    return [token for block in path for token in (block, 7)]


def prefixes(path: Path) -> list[Path]:
    return [path[:length] for length in range(1, len(path) + 1)]


def hashes_of(path: Path) -> Hashes:
    return hash_blocks(np.array(tokens_of(path), np.uint32), BLOCK_SIZE, 0)


def engine_name(path: Path, name: int) -> int:
    """What an engine might call a block; two names for one block are possible, and so is 0."""
    number = 0
    for block in path:
        number = number * 3 + block + 1
    return number - 1 + (name << 63)


paths = st.lists(st.integers(0, 1), min_size=1, max_size=DEPTH).map(tuple)
slots = st.sampled_from(SLOTS)
tiers = st.sampled_from([Tier.GPU, Tier.GPU, Tier.GPU, Tier.CPU, Tier.DISK])
names = st.sampled_from([0, 0, 0, 1])
kinds = st.sampled_from(["store", "store", "store", "offload", "remove", "remove", "remove", "clear"])


class IndexMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.index = PrefixIndex()
        self.model = Model()
        self.clock = 0.0

    @rule(slot=slots, events=st.integers(1, 6), data=st.data())
    def report(self, slot: int, events: int, data: st.DataObject) -> None:
        """A batch of a replica's events; most removals are of blocks that it has."""
        batch = KvBatch.join([self.event(data.draw(kinds), slot, data) for _ in range(events)])
        applied = self.index.apply(slot, batch)
        removals = int(batch.events["blocks"][batch.events["kind"] == REMOVED].sum())
        counted = applied.stored_blocks + applied.orphaned_blocks + applied.unknown_offloaded
        assert counted == len(batch.engine_hashes) - removals
        assert applied.removed_blocks + applied.unknown_removed == removals
        assert applied.clears == (batch.events["kind"] == CLEARED).sum()

    def event(self, kind: str, slot: int, data: st.DataObject) -> KvBatch:
        if kind == "clear":
            self.model.clear(slot)
            return KvBatch.cleared()
        if kind == "remove":
            held = sorted(+self.model.refs.get(slot, Counter()))
            engine_hash, tier = data.draw(st.sampled_from([*held, (12345, Tier.GPU)]))
            self.model.remove(slot, [engine_hash], tier)
            return KvBatch.removed([engine_hash], tier=tier)
        path, tier, name = data.draw(st.tuples(paths, tiers, names))
        if kind == "offload":
            hashes = [engine_name(each, name) for each in prefixes(path)]
            self.model.store(slot, hashes, None, None, tier)
            return KvBatch.stored(hashes, tier=tier)
        first = data.draw(st.sampled_from([0, 0, len(path) - 1]))
        parent = engine_name(path[:first], name) if first else None
        stored = prefixes(path)[first:]
        hashes = [engine_name(each, name) for each in stored]
        self.model.store(slot, hashes, stored, parent, tier)
        return KvBatch.stored(hashes, tokens_of(path[first:]), BLOCK_SIZE, parent=parent, tier=tier)

    @rule(slot=slots)
    def drop(self, slot: int) -> None:
        self.model.drop(slot)
        self.index.drop(slot)
        assert self.index.held_blocks(slot) == 0

    @rule(slot=slots, path=paths, lifetime_s=st.integers(0, 3))
    def predict(self, slot: int, path: Path, lifetime_s: int) -> None:
        self.model.predict(slot, prefixes(path), self.clock + lifetime_s)
        self.index.predict(slot, hashes_of(path), self.clock + lifetime_s)

    @rule(passed_s=st.integers(0, 2))
    def expire(self, passed_s: int) -> None:
        self.clock += passed_s
        self.model.expire(self.clock)
        self.index.expire(self.clock)

    @rule(slot=slots, path=paths, capacity=st.integers(0, 6))
    def remember(self, slot: int, path: Path, capacity: int) -> None:
        self.model.remember(slot, prefixes(path), capacity)
        self.index.remember(slot, hashes_of(path), capacity)

    @rule()
    def restart(self) -> None:
        data = self.index.snapshot()
        self.index = PrefixIndex()
        self.index.load(data)
        self.model.predicted = {}

    @invariant()
    def matches_agree(self) -> None:
        for path in product((0, 1), repeat=DEPTH):
            match = self.index.match(hashes_of(path))
            for slot in SLOTS:
                expected = self.model.match(slot, path)
                found = [int(row[slot]) for row in match.counts]
                assert found == [expected.total(), *(expected[tier] for tier in Tier)]
            assert match.blocks.sum() == sum(match.blocks[slot] for slot in SLOTS)

    @invariant()
    def counts_agree(self) -> None:
        for slot in SLOTS:
            reported = len(self.model.engine.get(slot, ()))
            assert self.index.held_blocks(slot) == reported + len(self.model.history.get(slot, ()))
        assert self.index.distinct_blocks == len(self.model.paths())


IndexMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestIndexAgainstModel = IndexMachine.TestCase
