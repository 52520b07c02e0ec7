"""One LLM call on its way through the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

import sim.engine as engine
from router.core import types as core
from sim.cluster.progress import Progress
from sim.cluster.record import CallRecord, PrefillRecord
from sim.workloads.program import Step


@dataclass(slots=True, eq=False)
class Prefill:
    """A call's prompt alone, computed for another replica."""

    work: engine.Request
    record: PrefillRecord


@dataclass(slots=True, eq=False)
class Call:
    progress: Progress
    step: Step
    record: CallRecord
    request: core.Request
    work: engine.Request
    """The same, as the engine that answers sees it."""
    tokens: core.Tokens
    """Of the prompt and the answer."""
    hashes: core.Hashes
    ticket: core.Ticket | None = field(default=None)
    prefill: Prefill | None = None


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


def make_work(call: Call) -> engine.Request:
    """The call, for an engine that knows nothing of it."""
    return engine.Request(call.request.id, call.step.prompt_tokens, call.step.output_tokens, call.hashes)


def add_prefill(call: Call, replica: int) -> engine.Request:
    """The call's prompt, for an engine that computes it for another one. It answers one token, as it must."""
    work = engine.Request(call.request.id, call.step.prompt_tokens, 1, call.hashes, keep_for_transfer=True)
    call.record.prefill = PrefillRecord(replica)
    call.prefill = Prefill(work, call.record.prefill)
    return work
