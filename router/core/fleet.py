"""Who is there: the replicas, their rows, the models they serve and their health.

Every replica (or data-parallel rank) has a row number, its *slot*, in all per-replica arrays of the core.
Slots of replicas that leave are used again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.types import Health, IndexState, ReplicaSpec, Role

MAX_REPLICAS = 1024

Slots = NDArray[np.intp]
Mask = NDArray[np.bool_]


class FleetFullError(Exception):
    """More replicas than the index has rows for."""


class ModelRef(NamedTuple):
    """What a client's model name stands for."""

    base: str
    lora: str = ""


class Fleet:
    """The replicas. ``specs``, ``health`` and ``index_states`` are lists by slot. Masks by slot: ``routable``, and by
    role ``decoding`` (answers clients) and ``prefilling`` (computes prompts for others); ``both`` is in both."""

    def __init__(self) -> None:
        self.specs: list[ReplicaSpec | None] = []
        self.health: list[Health] = []
        self.index_states: list[IndexState] = []
        self.routable: Mask = np.zeros(0, dtype=np.bool_)
        self.decoding: Mask = np.zeros(0, dtype=np.bool_)
        self.prefilling: Mask = np.zeros(0, dtype=np.bool_)
        self.slots: Slots = np.zeros(0, dtype=np.intp)
        self.version = 0
        """Counts the changes."""
        self._slot_of: dict[str, int] = {}
        self._refs: dict[str, ModelRef] = {}
        self._serving: dict[str, Mask] = {}
        self._block_sizes: dict[str, tuple[int, ...]] = {}
        self._divided: set[str] = set()

    def __len__(self) -> int:
        return len(self._slot_of)

    def __iter__(self) -> Iterator[tuple[int, ReplicaSpec]]:
        for slot, spec in enumerate(self.specs):
            if spec is not None:
                yield slot, spec

    def slot(self, name: str) -> int | None:
        return self._slot_of.get(name)

    def at(self, slot: int) -> ReplicaSpec:
        """The replica in a slot. Raises LookupError when there is none."""
        spec = self.specs[slot]
        if spec is None:
            raise LookupError(f"slot {slot} has no replica")
        return spec

    def put(self, spec: ReplicaSpec) -> int:
        """Adds a replica, or replaces what was known of it; returns its slot. Raises FleetFullError."""
        slot = self._slot_of.get(spec.name)
        if slot is None:
            slot = self._free_slot()
            self._slot_of[spec.name] = slot
            self.health[slot] = Health.STARTING
            self.index_states[slot] = IndexState.NONE
        self.specs[slot] = spec
        self._refresh()
        return slot

    def remove(self, name: str) -> int | None:
        """Forgets a replica; returns the slot that it had."""
        slot = self._slot_of.pop(name, None)
        if slot is not None:
            self.specs[slot] = None
            self._refresh()
        return slot

    def set_health(self, name: str, health: Health) -> None:
        slot = self._slot_of.get(name)
        if slot is not None:
            self.health[slot] = health
            self._refresh()

    def resolve(self, model: str) -> ModelRef | None:
        """What a model name stands for; an empty name means the only base model, if there is but one."""
        if model:
            return self._refs.get(model)
        bases = {spec.base_model for _, spec in self if spec.models}
        return ModelRef(bases.pop()) if len(bases) == 1 else None

    def serving(self, model: str) -> Mask:
        """Mask by slot of the replicas that serve this base model name, alias or adapter."""
        mask = self._serving.get(model)
        return np.zeros(len(self.specs), dtype=np.bool_) if mask is None else mask

    def has_roles(self, base: str) -> bool:
        """Whether some replica of a base model serves one leg only."""
        return base in self._divided

    def block_sizes_tokens(self, base: str) -> tuple[int, ...]:
        """The distinct block sizes among the replicas of a base model."""
        return self._block_sizes.get(base, ())

    def model_names(self) -> list[str]:
        return list(self._refs)

    def _free_slot(self) -> int:
        for slot, spec in enumerate(self.specs):
            if spec is None:
                return slot
        if len(self.specs) >= MAX_REPLICAS:
            raise FleetFullError(f"at most {MAX_REPLICAS} replicas and ranks; run a second router")
        self.specs.append(None)
        self.health.append(Health.STARTING)
        self.index_states.append(IndexState.NONE)
        return len(self.specs) - 1

    def _refresh(self) -> None:
        """Rebuilds what is derived from the specs. Fleets change rarely, requests come often."""
        self.version += 1
        count = len(self.specs)
        present = [slot for slot, _ in self]
        self.slots = np.array(present, dtype=np.intp)
        self.routable, self.decoding, self.prefilling = np.zeros((3, count), dtype=np.bool_)
        self._refs, self._serving = {}, {}
        sizes: dict[str, set[int]] = {}
        for slot, spec in self:
            self.routable[slot] = self.health[slot] is Health.HEALTHY
            self.decoding[slot] = spec.role is not Role.PREFILL
            self.prefilling[slot] = spec.role is not Role.DECODE
            sizes.setdefault(spec.base_model, set()).add(spec.block_size_tokens)
            for name in (*spec.models, *spec.adapters):
                lora = "" if name in spec.models else name
                self._refs.setdefault(name, ModelRef(spec.base_model, lora))
                self._serving.setdefault(name, np.zeros(count, dtype=np.bool_))[slot] = True
        self._divided = {spec.base_model for _, spec in self if spec.role is not Role.BOTH}
        self._block_sizes = {base: tuple(sorted(found)) for base, found in sizes.items()}
