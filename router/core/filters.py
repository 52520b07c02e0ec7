"""Filters: which replicas may serve a request at all."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from router.core.fleet import Fleet, ModelRef, Slots
from router.core.types import Request


class Filter(Protocol):
    """Keeps some of ``slots``. Returning none refuses the request."""

    name: str
    steady: bool
    """Whether what it keeps depends on model and fleet alone, and so can be kept from one request to the next."""

    def keep(self, request: Request, model: ModelRef, slots: Slots, fleet: Fleet) -> Slots: ...


class Healthy:
    """Replicas that answer health checks and are not draining."""

    name = "healthy"
    steady = True

    def keep(self, request: Request, model: ModelRef, slots: Slots, fleet: Fleet) -> Slots:
        return slots[fleet.routable[slots]]


class Model:
    """Replicas that serve the request's base model."""

    name = "model"
    steady = True

    def keep(self, request: Request, model: ModelRef, slots: Slots, fleet: Fleet) -> Slots:
        return slots[fleet.serving(model.base)[slots]]


class Lora:
    """Replicas that have the request's LoRA adapter."""

    name = "lora"
    steady = True

    def keep(self, request: Request, model: ModelRef, slots: Slots, fleet: Fleet) -> Slots:
        return slots[fleet.serving(model.lora)[slots]] if model.lora else slots


class Decodes:
    """Replicas that answer clients. Where none of them is left, replicas that only compute prompts must do."""

    name = "decodes"
    steady = True

    def keep(self, request: Request, model: ModelRef, slots: Slots, fleet: Fleet) -> Slots:
        decoding = slots[fleet.decoding[slots]]
        return decoding if len(decoding) else slots


class Prefills:
    """Replicas that compute prompts for others."""

    name = "prefills"
    steady = True

    def keep(self, request: Request, model: ModelRef, slots: Slots, fleet: Fleet) -> Slots:
        return slots[fleet.prefilling[slots]]


class Subset:
    """Replicas that the request allows, less those that already failed it."""

    name = "subset"
    steady = False

    def keep(self, request: Request, model: ModelRef, slots: Slots, fleet: Fleet) -> Slots:
        if request.subset is None and not request.excluded:
            return slots
        allowed = [slot for slot in slots if self._allows(request, fleet, slot)]
        return np.array(allowed, dtype=np.intp)

    @staticmethod
    def _allows(request: Request, fleet: Fleet, slot: int) -> bool:
        spec = fleet.specs[slot]
        if spec is None or spec.name in request.excluded:
            return False
        return request.subset is None or spec.name in request.subset
