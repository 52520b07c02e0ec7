"""One direction of a replica's network interface."""

from __future__ import annotations

from sim.engine import TransferModel


class Link:
    """What is sent waits for what was sent before."""

    __slots__ = ("_free_s", "_model", "_speed")

    def __init__(self, model: TransferModel, speed: float) -> None:
        """``speed`` 2 is twice as fast as the model says."""
        self._model = model
        self._speed = speed
        self._free_s = 0.0

    @property
    def latency_s(self) -> float:
        return self._model.latency_s / self._speed

    def reserve(self, tokens: int, now_s: float) -> float:
        """Seconds until the keys and values of so many tokens have gone through, from now."""
        took_s = self._model.bytes_left(tokens) / self._model.bandwidth_bytes_per_s / self._speed
        self._free_s = max(self._free_s, now_s) + took_s
        return self._free_s - now_s

    def bytes(self, tokens: int) -> int:
        return tokens * self._model.bytes_per_token
