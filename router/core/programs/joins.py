"""Joins: siblings that one later step waits for.

The first sibling that names a join makes its step expected; a width tells how many siblings are still to come. Which
step it is shows when it comes: it has the join's name, or follows one of the siblings, or comes when all are over and
is no sibling itself. What was announced and is missing then will not come. A join whose siblings are over and that the
program has gone past, as a step has come that is further from the beginning, is doubted: it counts for nothing until
another sibling comes. A single sibling's word on how many there are is not taken. A step that comes without a word
when siblings of its level are missing is one of them.
"""

from __future__ import annotations

from router.core.programs.estimate import Estimator
from router.core.programs.history import kind_of
from router.core.programs.program import Program
from router.core.programs.rank import set_tail, set_time, settle
from router.core.programs.step import Join, State, Step
from router.core.types import ProgramHint

_MAX_WIDTH = 4096
_MAX_JOINS = 64
"""Of one program at a time."""
_LAST = 1 << 32
"""Added to the number of a join's step, as its siblings come later than it is expected."""


def add_sibling(step: Step, name: str, width: int, calls_after: float, estimator: Estimator) -> bool:
    """The step has come and is one of the join of that name. False: the join's step has come already."""
    program = step.program
    join = program.joins.get(name) or _open(program, name, estimator)
    if join is None:
        return False
    step.join = join
    join.members += 1
    if not join.node.declared:
        join.width = max(join.width, min(width, _MAX_WIDTH))
    join.sibling_s = step.time_s
    _count_missing(join, join.missing if join.members > 1 else 0)
    node = join.node
    step.followers[node] = None
    node.waits_for[step] = None
    node.level = max(node.level, step.level + 1)
    if not node.declared:
        left = max(calls_after - 1.0, 0.0)
        left = left if join.members == 1 else min(left, node.tail_calls)
        set_tail(node, left, estimator.tail_s(program, left))
        settle(node)
    return True


def awaited(program: Program, hint: ProgramHint) -> Join | None:
    """The join whose step is coming, though not under the join's name."""
    for name in hint.after:
        before = program.steps.get(name)
        if before is not None and before.join is not None and before.join is program.joins.get(before.join.name):
            return before.join
    if any(name in program.steps for name in hint.after):
        return None
    return next((join for join in program.joins.values() if join.left <= 0 and join.name != hint.join), None)


def unsaid(step: Step) -> str:
    """The join that a step is likely to be a sibling of, though its client says nothing; empty: none."""
    for name, join in step.program.joins.items():
        if join.missing and join.node.level == step.level + 1:
            return name
    return ""


def take(program: Program, join: Join, name: str) -> Step:
    """The join's step is coming, under ``name`` or, if that is empty, under the join's."""
    step = join.node
    if name and name != step.name:
        del program.steps[step.name]
        earlier = program.steps.pop(name, None)
        if earlier is not None:
            program.rename(earlier, f"{name}~{earlier.number}")
        program.rename(step, name)
    return step


def resolve(step: Step) -> None:
    """The step that siblings were waiting for is expected no more: who is missing will not come."""
    join = step.gathers
    if join is not None and step.program.joins.pop(join.name, None) is not None:
        _count_missing(join, 0)


def outdated(program: Program) -> list[Join]:
    """Those to be doubted."""
    return [join for join in program.joins.values() if join.members == join.over and join.node.level < program.level]


def _open(program: Program, name: str, estimator: Estimator) -> Join | None:
    """The join of that name, new or no longer doubted. None: its step has come, or there are too many."""
    node = program.steps.get(name)
    if (node is not None and node.tries) or len(program.joins) >= _MAX_JOINS:
        return None
    node = node or _expect(program, name)
    if node.state is State.ABANDONED:
        node.state = State.EXPECTED
        program.expected += 1
    if not node.declared:
        node.wait_s = estimator.wait_s(program, node.kind)
        set_time(node, estimator.unseen(program, node.kind))
    node.gathers = node.gathers or Join(name, node)
    program.joins[name] = node.gathers
    return node.gathers


def _expect(program: Program, name: str) -> Step:
    node = program.add_step(name, kind_of(name))
    node.number += _LAST
    return node


def _count_missing(join: Join, missing: int) -> None:
    program = join.node.program
    program.missing += missing - join.counted
    program.missing_s += missing * join.sibling_s - join.counted_s
    join.counted, join.counted_s = missing, missing * join.sibling_s
