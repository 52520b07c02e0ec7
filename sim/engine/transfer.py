"""How long the KV blocks of a prompt travel from the replica that computed them to the one that answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class TransferModel:
    """One transfer on a network that nobody else uses."""

    bytes_per_token: int
    """Keys and values of one token in all layers, over all GPUs of the replica."""
    bandwidth_bytes_per_s: float = 25e9
    """Of one replica's network interface, in each direction. 25e9 is a NIC of 200 Gbit/s."""
    latency_s: float = 0.002
    """Before the first byte: the two sides' messages, and the list of blocks."""
    overlap: float = 0.0
    """Share of a prompt's bytes that can leave, layer by layer, while the rest of the prompt is still computed. 0 is a
    pull after the prefill, as vLLM's NixlConnector does it."""

    def __post_init__(self) -> None:
        if self.bytes_per_token < 1 or self.bandwidth_bytes_per_s <= 0:
            raise ValueError("bytes_per_token and bandwidth_bytes_per_s must be positive")
        if self.latency_s < 0 or not 0 <= self.overlap <= 1:
            raise ValueError("latency_s must not be negative, and overlap is a share within 0..1")

    def bytes_left(self, tokens: int, prefill_s: float = 0.0) -> float:
        """What remains to be sent of so many tokens when a prefill of ``prefill_s`` has ended."""
        size = float(tokens * self.bytes_per_token)
        return size - min(self.overlap * size, self.bandwidth_bytes_per_s * prefill_s)

    def seconds(self, tokens: int, prefill_s: float = 0.0) -> float:
        """From asking for the blocks to having them, after a prefill of ``prefill_s``."""
        return self.latency_s + self.bytes_left(tokens, prefill_s) / self.bandwidth_bytes_per_s
