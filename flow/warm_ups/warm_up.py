"""One warm-up, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from router.core.flow import ProgramKey, Waiting
from router.core.types import Decision, Ticket


class Result(StrEnum):
    """What came of a warm-up."""

    USED = "used"
    """Its program's next call found more cached than there was before."""
    LATE = "late"
    """The next call came before it was through. What was computed by then stays in the cache."""
    LOST = "lost"
    """The next call ran there, and found no more than there was before."""
    ELSEWHERE = "elsewhere"
    """The next call ran on another replica."""
    NO_RETURN = "no_return"
    """There was no next call, or not for long."""
    FAILED = "failed"
    """The replica did not take it."""


@dataclass(slots=True, eq=False)
class WarmUp:
    """A prompt on its way into a cache, and then in it."""

    waiting: Waiting
    """The call that had the prompt."""
    payload: object
    """What the shell needs to send it again."""
    ticket: Ticket
    held_tokens: int
    """Of the prompt, by the replica that held most of it before."""
    running: bool = True
    stopped: bool = False
    """It was told to stop before its end."""
    late: bool = False

    @property
    def key(self) -> ProgramKey:
        return self.waiting.request.program_key

    @property
    def decision(self) -> Decision:
        if self.ticket.decision is None:
            raise LookupError("a warm-up has been decided when it is made")
        return self.ticket.decision
