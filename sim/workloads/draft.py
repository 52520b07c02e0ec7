"""Writing a program: threads of calls, each of whose prompts repeats all before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sim.workloads.program import Context, Part, Program, Step


@dataclass(slots=True)
class Thread:
    """One agent's conversation. A copy of it goes on from the same prefix."""

    draft: Draft
    parts: tuple[Part, ...] = ()
    """What the next call's prompt holds so far."""
    after: tuple[str, ...] = ()
    """Steps that the next call follows."""
    agent: str = ""

    @property
    def context_tokens(self) -> int:
        return sum(part.tokens for part in self.parts)

    def read(self, *parts: Part) -> None:
        """Append what has been written before."""
        self.parts += parts

    def hear(self, context: Context, tokens: int) -> None:
        """Append something new."""
        self.parts += (self.draft.new_part(context, tokens),)

    def call(self, name: str, output_tokens: int, wait_s: float = 0.0) -> Part:
        """Send the prompt; the answer, also returned, becomes part of it."""
        step = self.draft.add(name, self, output_tokens, wait_s)
        answer = Part(Context.ANSWER, step.answer_stream, step.output_tokens)
        self.parts += (answer,)
        self.after = (name,)
        return answer

    def fork(self, agent: str = "") -> Thread:
        """Another thread on the same prefix, after the same steps."""
        return Thread(self.draft, self.parts, self.after, agent or self.agent)

    def join(self, *threads: Thread) -> None:
        """Let the next call follow those of ``threads``."""
        self.after = tuple(dict.fromkeys(step for thread in threads for step in thread.after))


@dataclass(slots=True)
class Draft:
    """The steps of one program as they are written. ``streams`` yields identities that nothing else has."""

    streams: Iterator[int]
    steps: list[Step] = field(default_factory=list)

    def new_part(self, context: Context, tokens: int) -> Part:
        return Part(context, next(self.streams), max(1, tokens))

    def add(self, name: str, thread: Thread, output_tokens: int, wait_s: float) -> Step:
        step = Step(
            name, thread.parts, max(1, output_tokens), next(self.streams), thread.after, wait_s, thread.agent
        )  # fmt: skip
        self.steps.append(step)
        return step

    def program(self, kind: str, number: int) -> Program:
        return Program(f"{kind}-{number}", kind, 0.0, tuple(self.steps))


def relabelled(part: Part, context: Context) -> Part:
    """The same tokens in another role, as when one agent's answer is another's input."""
    return replace(part, context=context)
