"""A program's contexts: each call's prompt and answer, wanted by the call and then by the one that goes on from it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from flow.admission.returns import expected_return_s
from flow.admission.stock import Stretches, cut
from router.core.flow import ProgramKey, Waiting
from router.core.programs.call import Call

_USUAL_ANSWER_TOKENS = 256.0
"""The median of agents' answers is 216 (callanjfox/kv-cache-tester)."""
JUDGED_ANEW_S = 0.25


class Refused(NamedTuple):
    """Who had no room for a context."""

    question: tuple[str, bool, float]
    """What else the answer depends on: where it has to go, whether it is forced, and what is about to come."""
    by: Set[str]
    """Replicas."""
    change: int
    """The last one of any place before that."""
    judged_s: float
    """When the oldest of the expectations that this rests on was formed."""


@dataclass(slots=True, eq=False)
class Context:
    program: Member
    call: Call | None
    stretches: Stretches
    stretch_tokens: int
    rest_tokens: float
    """Beyond the stretches, the answer included: expected, then as it was."""
    replica: str = ""
    """Where it is wanted. Empty: nowhere yet, or nowhere any more."""
    open: bool = True
    """Its call is not over."""
    useless: bool = False
    """Nobody will go on from it."""
    ended_s: float = 0.0
    missing: dict[object, tuple[int, int]] | None = None
    """What was missing of it by place, while it was nowhere yet, with the version of the place's stock."""
    refused: Refused | None = None
    """When room was last asked for."""
    judged_s: float = -inf
    """When it was said when it is expected."""
    _expected_s: float = 0.0

    def expected_s(self, now: float) -> float:
        """Time to the next call that goes on from it, as it was judged a moment ago."""
        if now - self.judged_s > JUDGED_ANEW_S:
            self.judged_s = now
            self._expected_s = expected_return_s(self.call, now - self.ended_s)
        return self._expected_s

    @property
    def tokens(self) -> float:
        return len(self.stretches) * self.stretch_tokens + self.rest_tokens


@dataclass(slots=True, eq=False)
class Member:
    """A program with contexts on replicas, or with requests that wait."""

    key: ProgramKey
    contexts: dict[Context, None] = field(default_factory=dict)
    """On replicas, unless they are useless."""
    open: int = 0
    """Calls that were let in and are not over."""
    held: int = 0
    """Calls that were not let in."""

    def resting(self) -> list[Context]:
        return [context for context in self.contexts if not context.open]

    def extended_by(self, context: Context) -> Context | None:
        """The longest of its contexts at rest that another one begins with."""
        best: Context | None = None
        if not self.contexts:
            return None
        for each in self.contexts:
            length = len(each.stretches)
            if each.open or length > len(context.stretches) or (best is not None and length < len(best.stretches)):
                continue
            if not length or context.stretches[length - 1] == each.stretches[-1]:
                best = each
        return best


def draft(waiting: Waiting, member: Member) -> Context:
    """The context that a request's call would have."""
    call = waiting.call
    stretches, stretch_tokens = cut(waiting.chain)
    answer_tokens = _USUAL_ANSWER_TOKENS if call is None else max(call.output_tokens, 1.0)
    rest_tokens = waiting.request.prompt_tokens - len(stretches) * stretch_tokens + answer_tokens
    return Context(member, call, stretches, stretch_tokens, rest_tokens)
