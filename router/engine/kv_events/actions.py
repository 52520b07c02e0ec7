"""What ``Sequence`` is told and what it answers: one message of a publisher, and the actions of its shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from router.core.types import IndexState


class Message(NamedTuple):
    seq: int
    payload: bytes


@dataclass(slots=True, frozen=True)
class Apply:
    """Hand these payloads to the index, in order, and call ``Sequence.applied`` with what came of it."""

    payloads: list[bytes]
    epoch: int
    """Which contiguous piece of the stream they belong to."""


@dataclass(slots=True, frozen=True)
class Reset:
    """Forget what is known of the replica."""

    restarted: bool
    """The publisher is another process than before."""


@dataclass(slots=True, frozen=True)
class Announce:
    """How far the index can be trusted from here on. DEGRADED also forgets what is known."""

    state: IndexState


@dataclass(slots=True, frozen=True)
class AskReplay:
    """Ask for all messages from this number on, on a fresh connection: answers to earlier questions are void."""

    first_seq: int


@dataclass(slots=True, frozen=True)
class StopReplay:
    """The rest of the answer is of no use."""


Action = Apply | Reset | Announce | AskReplay | StopReplay
