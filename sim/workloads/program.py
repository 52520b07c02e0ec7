"""A program: a graph of LLM calls, told without any text.

A prompt is a list of parts. A part is a stretch of tokens with an identity: equal identities are equal tokens, so
two prompts share a prefix exactly as far as their parts agree. Where the tokens come from is the cluster's matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Context(StrEnum):
    """What a part of a prompt is, for hit rates by kind."""

    SYSTEM = "system"
    TOOLS = "tools"
    SHARED = "shared"
    BRANCH = "branch"
    CHECKPOINT = "checkpoint"
    USER = "user"
    TOOL_RESULT = "tool_result"
    ANSWER = "answer"


@dataclass(slots=True, frozen=True)
class Part:
    """``tokens`` tokens of the stream named ``stream``, from ``offset`` on.

    A stream is an endless sequence of tokens; (stream, offset, tokens) names the same tokens everywhere. The answer
    of a step is the stream that ``answer_stream`` names.
    """

    context: Context
    stream: int
    tokens: int
    offset: int = 0


@dataclass(slots=True, frozen=True)
class Step:
    """One LLM call. It is sent ``wait_s`` after the last of ``after`` has ended (tool time), or after the program's
    arrival if it follows nothing."""

    name: str
    parts: tuple[Part, ...]
    output_tokens: int
    answer_stream: int
    after: tuple[str, ...] = ()
    wait_s: float = 0.0
    agent: str = ""
    """The sub-agent that makes the call; empty when it is the program itself."""

    @property
    def prompt_tokens(self) -> int:
        return sum(part.tokens for part in self.parts)


@dataclass(slots=True, frozen=True)
class Program:
    """Steps in an order in which each comes after those it follows. It is complete when its last step ends."""

    id: str
    kind: str
    """Workflow or agent name: ``react``, ``tot``, ..."""
    arrival_s: float
    steps: tuple[Step, ...]
    tenant: str = ""
