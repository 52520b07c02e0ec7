"""One LLM call on its way through the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

import sim.engine as engine
from router.core import types as core
from sim.cluster.progress import Progress
from sim.cluster.record import CallRecord
from sim.workloads.program import Step


@dataclass(slots=True, eq=False)
class Call:
    progress: Progress
    step: Step
    record: CallRecord
    request: core.Request
    work: engine.Request
    """The same, as the engine sees it."""
    tokens: core.Tokens
    """Of the prompt and the answer."""
    hashes: core.Hashes
    ticket: core.Ticket | None = field(default=None)


def make_call(progress: Progress, step: Step, number: int, sent_s: float, model: str) -> Call:
    tokens, hashes = progress.renderer.render(step)
    prompt = core.Prompt(tokens[: step.prompt_tokens])
    name = str(number)
    return Call(
        progress,
        step,
        CallRecord(progress.program, step, sent_s),
        core.Request(name, model, prompt, max_tokens=step.output_tokens, streams=True),
        engine.Request(name, step.prompt_tokens, step.output_tokens, hashes),
        tokens,
        hashes,
    )
