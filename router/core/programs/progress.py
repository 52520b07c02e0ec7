"""A step's way from the router's queue to its end, and what it costs on the way."""

from __future__ import annotations

from router.core.programs.estimate import Estimator
from router.core.programs.graph import release
from router.core.programs.rank import set_tail, set_time, settle
from router.core.programs.step import State, Step
from router.core.types import Outcome, Usage

_ENDS = {Outcome.OK: State.DONE, Outcome.CLIENT_GONE: State.ABANDONED}


def dispatched(step: Step, cached_tokens: int, estimator: Estimator, now: float) -> None:
    """The step left the queue for a replica that holds ``cached_tokens`` of its prompt."""
    if step.state is not State.WAITING:
        return
    program = step.program
    program.waiting -= 1
    program.running += 1
    program.waited_s += _since(step.came_s, now)
    step.state, step.dispatched_s, step.cached_tokens = State.RUNNING, now, cached_tokens
    set_time(step, estimator.dispatched(step))
    settle(step)


def started(step: Step, estimator: Estimator, now: float) -> None:
    """The first token is there."""
    if step.state is not State.RUNNING or step.started_s is not None:
        return
    step.started_s = now
    set_time(step, estimator.started(step))
    settle(step)


def ended(
    step: Step, usage: Usage | None, outcome: Outcome, estimator: Estimator, now: float, *, is_told: bool = False
) -> None:
    """A dispatched step is over; ``is_told``: its history knows."""
    if step.state is not State.RUNNING:
        return
    program = step.program
    program.running -= 1
    program.attained_s += _since(step.dispatched_s, now)
    if outcome is not Outcome.REJECTED:
        _account(step, usage)
    step.state = _ENDS.get(outcome, State.FAILED)
    step.ended_s = now
    if outcome is Outcome.OK:
        if not is_told:
            estimator.learn_answer(step, usage)
        _reach(step, now)
    _over(step)


def withdrawn(step: Step, now: float) -> None:
    """The client of a step that waits has left, or it was refused."""
    if step.state is not State.WAITING:
        return
    program = step.program
    program.waiting -= 1
    program.waited_s += _since(step.came_s, now)
    step.state, step.ended_s = State.ABANDONED, now
    _over(step)


def _since(then_s: float | None, now: float) -> float:
    return 0.0 if then_s is None else now - then_s


def spent(prompt_tokens: int, cached_tokens: int, usage: Usage | None) -> tuple[int, int, int]:
    """Prompt, cached and answer tokens: what the replica says, else what was expected, and 0 for the answer."""
    if usage is None:
        return prompt_tokens, cached_tokens, 0
    return (
        prompt_tokens if usage.prompt_tokens is None else usage.prompt_tokens,
        cached_tokens if usage.cached_tokens is None else usage.cached_tokens,
        usage.completion_tokens or 0,
    )


def _reach(step: Step, now: float) -> None:
    """The longest path so far grows. What is to follow is judged by what followed: first steps do not count."""
    program = step.program
    step.reach_s += _since(step.dispatched_s, now)
    grown_s = max(step.reach_s - program.reach_s, 0.0)
    program.reach_s += grown_s
    if step is not program.first:
        program.history.reaches_s.add(grown_s if step.level > 1 else 0.0)


def _account(step: Step, usage: Usage | None) -> None:
    program = step.program
    step.prompt_tokens, step.cached_tokens, answered = spent(step.prompt_tokens, step.cached_tokens, usage)
    step.output_tokens = float(answered)
    program.computed_tokens += max(step.prompt_tokens - step.cached_tokens, 0)
    program.cached_tokens += step.cached_tokens
    program.recomputed_tokens += max(step.resent_tokens - step.cached_tokens, 0)
    program.output_tokens += answered
    program.longest_context_tokens = max(program.longest_context_tokens, step.prompt_tokens + answered)


def _over(step: Step) -> None:
    """What was expected after it is expected still, unless the client gave up."""
    program = step.program
    program.last_over = step
    set_time(step, 0.0)
    if step.join is not None:
        step.join.over += 1
    if step.state is State.DONE:
        release(step)
    if step.state is State.ABANDONED or not step.tail_calls:
        set_tail(step, 0.0, 0.0)
    else:
        program.loose[step] = None
    settle(step)
    if not program.open and not program.expected:
        program.known_s = 0.0
