"""What happened to the prefix cache, in order. Token ids are not here: whoever submitted the request has them."""

from __future__ import annotations

from typing import NamedTuple

from router.core.types import Hashes
from sim.engine.request import Request


class BlocksStored(NamedTuple):
    """Blocks ``first_block`` to ``first_block + blocks`` of the request can be found by their hash now."""

    request: Request
    first_block: int
    blocks: int


class BlocksRemoved(NamedTuple):
    """One block of each of these hashes was reused for other tokens. Another block may still hold the same."""

    hashes: Hashes


class CacheCleared(NamedTuple):
    """The prefix cache was reset."""


KvEvent = BlocksStored | BlocksRemoved | CacheCleared
