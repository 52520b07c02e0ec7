"""The newest call of each program, kept so that its prompt can be sent once more; bounded in number and in memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from flow.warm_ups.warm_up import WarmUp
from router.core.flow import ProgramKey, Waiting
from router.core.programs.step import Step


@dataclass(slots=True, eq=False)
class Kept:
    """The newest call of a program."""

    waiting: Waiting
    payload: object
    size_bytes: int
    last: Step | None = None
    """The program's call that ended last, while none is open."""
    since_s: float = 0.0
    """When it ended."""
    warm_up: WarmUp | None = None
    look: int = -1
    """The number of the next look at it."""

    @property
    def key(self) -> ProgramKey:
        return self.waiting.request.program_key


class KeptCalls:
    """By program, least recently renewed first."""

    def __init__(self, max_kept: int, max_bytes: int) -> None:
        self._max_kept = max_kept
        self._max_bytes = max_bytes
        self._kept: OrderedDict[ProgramKey, Kept] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: ProgramKey) -> Kept | None:
        return self._kept.get(key)

    def put(self, kept: Kept) -> list[Kept]:
        """Takes a program's newest call in place of its last one. Returns what had to make room, perhaps this one."""
        self.pop(kept.key)
        self._kept[kept.key] = kept
        self.bytes += kept.size_bytes
        dropped = []
        while len(self._kept) > self._max_kept or self.bytes > self._max_bytes:
            dropped.append(self._kept.popitem(last=False)[1])
            self.bytes -= dropped[-1].size_bytes
        return dropped

    def pop(self, key: ProgramKey) -> Kept | None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept.size_bytes
        return kept


def size_bytes(waiting: Waiting, payload_bytes: int) -> int:
    """Memory of a call that is kept."""
    prompt, chain = waiting.request.prompt, waiting.chain
    hashes = 0 if chain is None else sum(each.nbytes for each in chain.hashes.values())
    return payload_bytes + hashes + (0 if prompt is None else prompt.token_ids.nbytes)
