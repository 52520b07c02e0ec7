"""What a prefill leg leaves for the decode leg."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class HandedOver:
    """What one request to one replica is made of."""

    body: bytes
    """What the decode replica is asked. Emptied when its answer begins."""
    cached_tokens: int | None = None
    """What the prefill replica had cached; None when it did not say. It is what the client is told."""
    only_once: bool = False
    """The decode replica cannot be asked again with it: KV blocks that were asked for may be gone."""
    is_stranded: bool = True
    """Nobody has asked for the blocks, or whoever did may never have fetched them."""
