"""Programs cut to what a model can take in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sim.workloads.program import Program, Step


def fitting(programs: Iterable[Program], max_model_len_tokens: int) -> tuple[list[Program], int]:
    """The programs without the steps whose prompt and answer exceed the model, and how many steps that were.

    What followed such a step follows what the step itself followed, both waits added. Programs of which nothing is left
    are left out.
    """
    fitted, dropped = [], 0
    for program in programs:
        steps = _fitting_steps(program.steps, max_model_len_tokens)
        dropped += len(program.steps) - len(steps)
        if len(steps) == len(program.steps):
            fitted.append(program)
        elif steps:
            fitted.append(replace(program, steps=steps))
    return fitted, dropped


def _fitting_steps(steps: tuple[Step, ...], limit_tokens: int) -> tuple[Step, ...]:
    kept: list[Step] = []
    gone: dict[str, Step] = {}
    for step in steps:
        if not gone.keys().isdisjoint(step.after):
            step = _past(step, gone)
        if step.prompt_tokens + step.output_tokens > limit_tokens:
            gone[step.name] = step
        else:
            kept.append(step)
    return tuple(kept)


def _past(step: Step, gone: dict[str, Step]) -> Step:
    """``step``, following what the steps that are gone followed."""
    skipped = [gone[name] for name in step.after if name in gone]
    after = [each for name in step.after for each in (gone[name].after if name in gone else (name,))]
    wait_s = step.wait_s + max(each.wait_s for each in skipped)
    return replace(step, after=tuple(dict.fromkeys(after)), wait_s=wait_s)
