"""A declared graph, merged into what is known of the program already.

Steps that came keep what happened to them; those that were expected, declared or not, give way to the declaration.
"""

from __future__ import annotations

from router.core.programs.declare import Declaration, DeclarationError, DeclaredStep
from router.core.programs.estimate import Estimator
from router.core.programs.graph import close
from router.core.programs.history import kind_of
from router.core.programs.program import Program
from router.core.programs.rank import set_tail, set_time, update
from router.core.programs.step import Source, State, Step


def plan(program: Program, declaration: Declaration, max_steps: int, estimator: Estimator, now: float) -> None:
    """Enters the graph. Raises DeclarationError when it is too large together with the steps that came."""
    ordered = declaration.steps
    declared_names = {declared.name for declared in ordered}
    others = sum(
        1 for step in program.steps.values() if step.state is not State.EXPECTED and step.name not in declared_names
    )
    if others + len(ordered) > max_steps:
        came = f" and {others:,} that came already" if others else ""
        raise DeclarationError("steps", f"{len(ordered):,} steps{came}, at most {max_steps:,} are accepted")
    close(program)
    for name in [step.name for step in program.steps.values() if step.tries == 0]:
        program.name_chars -= len(name)
        del program.steps[name]
    program.declared, program.final, program.source = True, False, Source.DECLARED
    program.told += len(ordered)
    program.edges = sum(len(declared.after) for declared in ordered)
    planned = [_enter(program, declared, estimator) for declared in ordered]
    for step in reversed(planned):
        update(step)
    program.call_s = estimator.unseen(program, "")
    program.last_seen_s = now


def _enter(program: Program, declared: DeclaredStep, estimator: Estimator) -> Step:
    """Those that it follows are entered."""
    step = program.steps.get(declared.name)
    kind = declared.kind or kind_of(declared.name)
    if step is not None:
        step.declared, step.kind = True, kind
        set_tail(step, 0.0, 0.0)
        return step
    step = program.add_step(declared.name, kind)
    step.declared = True
    before = [program.steps[name] for name in declared.after]
    step.after = tuple(each.name for each in before)
    for each in before:
        step.level = max(step.level, each.level + 1)
        if each.state.over:
            step.ready_s = max(step.ready_s or 0.0, each.ended_s or 0.0)
        else:
            each.followers[step] = None
            step.waits_for[each] = None
    if declared.tool_ms is not None:
        step.wait_s = declared.tool_ms / 1000.0
    elif before:
        step.wait_s = estimator.wait_s(program, kind)
    set_time(step, estimator.declared(step, declared.prompt_tokens, declared.output_tokens))
    return step
