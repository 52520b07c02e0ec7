"""What a program's calls send: prompts of tokens that only their names decide, or conversations with real text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from program_mix import Mix
from real_programs import Prompts
from real_traces import Turn, conversation

from router.client import Program as Hints
from sim.workloads.outline import outline
from sim.workloads.program import Program, Step


class Calls:
    """Of one program."""

    def __init__(self, program: Program, mix: Mix, model: str, hinted: bool) -> None:
        self._turns: Sequence[Turn] = mix.texts.get(program.id, ())
        self._model = model
        self._prompts = Prompts()
        self._places = outline(program)
        self._hints = Hints(program.kind, run_id=program.id, kind=program.kind) if hinted else None
        self.path = "/v1/chat/completions" if self._turns else "/v1/completions"

    def headers(self, step: Step) -> dict[str, str]:
        """All that the program's graph says of the call, as a client that has it at hand would say it."""
        if self._hints is None:
            return {}
        place = self._places[step.name]
        return self._hints.step(
            step.name,
            after=step.after,
            join=place.join,
            width=place.width or None,
            remaining=place.remaining_steps,
            output_tokens=step.output_tokens,
            final=place.final,
        )

    def body(self, step: Step) -> dict[str, Any]:
        return self._prompt(step) | {
            "model": self._model,
            "max_tokens": step.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
        }

    def answered(self, step: Step, answer: list[int]) -> None:
        self._prompts.heard(step, answer)

    def _prompt(self, step: Step) -> dict[str, Any]:
        if self._turns:
            return {"messages": conversation(list(self._turns[: int(step.name.removeprefix("turn-"))]))}
        return {"prompt": self._prompts.of(step)}
