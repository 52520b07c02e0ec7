"""The part of the command line that is about prefill and decode replicas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sim.engine import Profile, TransferModel


@dataclass(slots=True, frozen=True, kw_only=True)
class RoleOptions:
    """As they were given; None where they were not."""

    prefill: int | None = None
    decode: int | None = None
    bandwidth_gbps: float | None = None
    transfer_latency_ms: float | None = None
    transfer_overlap: float | None = None
    transfer_failures: float | None = None

    @property
    def given(self) -> bool:
        return self.prefill is not None or self.decode is not None

    @property
    def replicas(self) -> int:
        return (self.prefill or 0) + (self.decode or 0)

    def conflicts(self) -> Iterator[str]:
        if (self.prefill is None) != (self.decode is None):
            yield "--prefill and --decode go together"
        if not self.given:
            yield from (f"{name} is about fleets with --prefill and --decode: give them" for name in self._about_kv())

    def transfer(self, profile: Profile) -> TransferModel | None:
        """None in a fleet without roles. Raises ValueError when nobody says how large the KV of a token is."""
        if not self.given:
            return None
        return make_transfer(profile, self.bandwidth_gbps, self.transfer_latency_ms, self.transfer_overlap)

    def _about_kv(self) -> Iterator[str]:
        values = {
            "--bandwidth-gbps": self.bandwidth_gbps,
            "--transfer-latency-ms": self.transfer_latency_ms,
            "--transfer-overlap": self.transfer_overlap,
            "--transfer-failures": self.transfer_failures,
        }
        yield from (name for name, value in values.items() if value is not None)


def make_transfer(
    profile: Profile, bandwidth_gbps: float | None, latency_ms: float | None = None, overlap: float | None = None
) -> TransferModel:
    """Raises ValueError when the profile does not say how large the KV of a token is."""
    if profile.kv_bytes_per_token is None:
        raise ValueError(f"the profile {profile.name} has no kv_bytes_per_token: how long KV blocks travel is unknown")
    given = {
        "bandwidth_bytes_per_s": None if bandwidth_gbps is None else bandwidth_gbps * 1e9 / 8,
        "latency_s": None if latency_ms is None else latency_ms / 1e3,
        "overlap": overlap,
    }
    known = {name: value for name, value in given.items() if value is not None}
    return TransferModel(profile.kv_bytes_per_token, **known)
