"""The kernels that `PrefixIndex` calls, compiled for the arrays it calls them with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index import events, matching, routed, snapshot
from router.core.index.batch import EventArrays, KvBatch
from router.core.index.events import EngineBlocks, Progress, new_engine_blocks, new_progress
from router.core.index.holders import Holders, new_holders
from router.core.index.jit import entry_point
from router.core.index.routed import History, new_history
from router.core.types import Hashes


class Kernels(NamedTuple):
    """Each answers False when a table is full; it is then called again. See where they are defined."""

    match_prefix: Callable[[Holders, Hashes, NDArray[np.int32]], None]
    apply_events: Callable[[Holders, EngineBlocks, int, EventArrays, Progress], bool]
    release_all: Callable[[Holders, EngineBlocks, int], bool]
    restore: Callable[[Holders, EngineBlocks, int, Hashes, Hashes, NDArray[np.uint16]], bool]
    predict: Callable[[Holders, int, Hashes, int], bool]
    expire: Callable[[Holders, int, Hashes, int], bool]
    remember: Callable[[Holders, History, int, Hashes, int], bool]
    forget_oldest: Callable[[Holders, History, int, int], bool]


@cache
def compiled() -> Kernels:
    """Compile everything, once in a process: seconds, or a tenth of one when the cache on disk has it."""
    holders, owned, history = new_holders(), new_engine_blocks(), new_history()
    hashes, counts = np.empty(0, np.uint64), np.empty((0, 0), np.int32)
    return Kernels(
        entry_point(matching.match_prefix, holders, hashes, counts),
        entry_point(events.apply_events, holders, owned, 0, KvBatch.cleared().arrays, new_progress()),
        entry_point(events.release_all, holders, owned, 0),
        entry_point(snapshot.restore, holders, owned, 0, hashes, hashes, owned.refs),
        entry_point(routed.predict_blocks, holders, 0, hashes, 0),
        entry_point(routed.expire_blocks, holders, 0, hashes, 0),
        entry_point(routed.remember_blocks, holders, history, 0, hashes, 0),
        entry_point(routed.forget_oldest, holders, history, 0, 0),
    )
