"""What happens, entered into a program's graph. Where a client said otherwise, what happens is right:

- a step that comes before one that it was declared or said to follow is over, does not wait for it: the edge goes;
- a step that nobody declared or announced is entered all the same; without a word on what it follows, it follows the
  step that ended last;
- ``remaining`` of a step counts until a follower comes, and then the follower's word does, if it is less by one at
  least: of two that contradict each other the smaller is believed, unless that left no call for the follower;
- a step that is over and was not followed is forgotten when a program would be in more tool waits at once than it ever
  had calls at once: its follower came unrecognised, or will not come;
- the step of a join comes when it comes, however many siblings are missing; a sibling that comes later is a step like
  any other;
- after a final step comes another one: the program goes on;
- a name that comes again is a second try if the first one failed or was given up, else a further step of that name.

Statements and contradictions are counted: `Program.evidence` rests on them.
"""

from __future__ import annotations

from router.core.programs import joins
from router.core.programs.estimate import Estimator
from router.core.programs.history import kind_of
from router.core.programs.program import Program
from router.core.programs.rank import set_tail, set_time, settle
from router.core.programs.step import Source, State, Step
from router.core.types import ProgramHint, Request

_NOTHING = ProgramHint(id="")


def come(program: Program, request: Request, estimator: Estimator, now: float, *, is_told: bool = False) -> Step:
    """The step of a request that came just now, entered and estimated; ``is_told``: its history knows that it came."""
    hint = request.program or _NOTHING
    step = _step_of(program, request, hint)
    again = step.tries > 0
    step.tries += 1
    if step.state is State.EXPECTED:
        program.expected -= 1
    carried = None if again else _follow(step, hint, now)
    step.state, step.came_s, step.wait_s = State.WAITING, now, 0.0
    step.request_id = request.id
    step.prompt_tokens, step.max_tokens = request.prompt_tokens, request.max_tokens
    program.waiting += 1
    program.most_open = max(program.most_open, program.open)
    while len(program.loose) > program.most_open - program.open:
        _take_up(next(iter(program.loose)))
    program.contradicted += program.final
    program.final = request.is_final
    if not again:
        _count(step, is_told)
    _look_ahead(step, hint, carried, estimator)
    return step


def _step_of(program: Program, request: Request, hint: ProgramHint) -> Step:
    known = program.steps.get(hint.step) if hint.step else None
    if known is not None and known.state is State.EXPECTED:
        return known
    last = program.last_over
    if not hint.step and last is not None and last.request_id == request.id:
        known = last
    if known is not None and known.state in (State.FAILED, State.ABANDONED):
        return _tried_again(known)
    join = joins.awaited(program, hint) if program.joins else None
    if join is not None:
        return joins.take(program, join, hint.step)
    if program.declared:
        program.contradicted += 1
    return program.add_step(hint.step, kind_of(hint.step))


def _tried_again(step: Step) -> Step:
    """What its end had undone that has not been taken up elsewhere."""
    program = step.program
    program.loose.pop(step, None)
    set_tail(step, 0.0, 0.0)
    if step.join is not None:
        step.join.over -= 1
        if program.joins.get(step.join.name) is step.join:
            step.followers[step.join.node] = None
            step.join.node.waits_for[step] = None
    step.dispatched_s = step.started_s = step.ended_s = None
    return step


def _follow(step: Step, hint: ProgramHint, now: float) -> float | None:
    """Sets what the step follows, its level and when it could have come. Returns the calls that were expected to be
    left on the longest path, itself not included; None: nobody knew."""
    program = step.program
    if step.waits_for:
        _lose_edges(step)
    if step.gathers is not None:
        program.contradicted += step.gathers.counted > 0
        joins.resolve(step)
    over = _said_before(step, hint) if hint.after else []
    learn = len(over) == len(hint.after)
    if not over and step.ready_s is None and not step.declared:
        last = next(reversed(program.loose), None) or program.last_over
        learn = last is program.last_over and last in program.loose
        over = [last] if last is not None and last.ended_s is not None else []
    if over:
        step.after = tuple([before.name for before in over])
    for before in over:
        step.level = max(step.level, before.level + 1)
        step.reach_s = max(step.reach_s, before.reach_s)
        step.ready_s = max(step.ready_s or 0.0, before.ended_s or 0.0)
    if learn and step.ready_s is not None:
        program.history.waited(step.kind, now - step.ready_s)
        step.reach_s += now - step.ready_s
    return _carried(over)


def _said_before(step: Step, hint: ProgramHint) -> list[Step]:
    """The steps that it follows by its client's word, of those that are known and over."""
    steps = step.program.steps
    named = [before for name in hint.after if (before := steps.get(name)) is not None and before is not step]
    over = [before for before in named if before.ended_s is not None]
    step.program.contradicted += len(named) - len(over)
    return over


def _lose_edges(step: Step) -> None:
    waited_for = list(step.waits_for)
    step.waits_for.clear()
    for before in waited_for:
        del before.followers[step]
        step.program.contradicted += not before.state.over
        settle(before)


def _carried(over: list[Step]) -> float | None:
    carried = None
    for before in over:
        if before in before.program.loose:
            _take_up(before)
        if before.calls_after is not None:
            left = before.calls_after - 1.0
            carried = left if carried is None else min(left, carried)
    return carried


def _take_up(step: Step) -> None:
    """What was expected after the step is there, or will not come."""
    del step.program.loose[step]
    set_tail(step, 0.0, 0.0)
    settle(step)


def _count(step: Step, is_told: bool) -> None:
    """A step has come for the first time."""
    program, history = step.program, step.program.history
    program.calls += 1
    if not is_told:
        history.lengths.add(program.calls)
    if program.calls == 1:
        program.first = step
    else:
        history.levels.add(min(max(step.level - program.level, 0), 1))
    program.level = max(program.level, step.level)
    for join in joins.outdated(program) if program.joins else ():
        give_up(join.node)


def _look_ahead(step: Step, hint: ProgramHint, carried: float | None, estimator: Estimator) -> None:
    """Estimates the step's call and what comes after it."""
    program = step.program
    set_time(step, estimator.coming(step, hint))
    program.call_s = estimator.unseen(program, "")
    program.breadth = program.history.breadth()
    calls_after, source = estimator.calls_after(step, hint, carried)
    if hint.remaining_steps is not None or hint.join or hint.final:
        program.told += 1
        told = calls_after if hint.remaining_steps is None else hint.remaining_steps
        program.contradicted += bool(hint.after) and source is Source.HINTED and carried is not None and told > carried
    step.calls_after = calls_after if source is not Source.HISTORY else None
    program.source = source
    if program.final:
        close(program)
    join = hint.join or (joins.unsaid(step) if program.joins and hint is _NOTHING else "")
    if join and not step.declared and step.join is None:
        if joins.add_sibling(step, join, hint.width, calls_after, estimator):
            calls_after = 0.0
        else:
            program.contradicted += 1
    elif step.followers:
        calls_after = 0.0
    set_tail(step, calls_after, estimator.tail_s(program, calls_after))
    settle(step)


def close(program: Program) -> None:
    """Nothing more is expected than what is open."""
    for step in list(program.loose):
        _take_up(step)
    if program.expected:
        for step in [step for step in program.steps.values() if step.state is State.EXPECTED]:
            give_up(step)


def give_up(step: Step) -> None:
    """An expected step will not come."""
    step.program.expected -= 1
    step.state, step.wait_s = State.ABANDONED, 0.0
    joins.resolve(step)
    set_time(step, 0.0)
    set_tail(step, 0.0, 0.0)
    release(step)
    for before in list(step.waits_for):
        del before.followers[step]
        settle(before)
    step.waits_for.clear()
    settle(step)


def release(step: Step) -> None:
    """The step is over: nobody waits for it any more."""
    for follower in step.followers:
        del follower.waits_for[step]
        follower.level = max(follower.level, step.level + 1)
        follower.reach_s = max(follower.reach_s, step.reach_s)
        if step.ended_s is not None:
            follower.ready_s = step.ended_s
    step.followers.clear()
