"""What is expected of a step: its output, the time of its call, the wait before it, and the calls after it."""

from __future__ import annotations

from math import log
from typing import NamedTuple

from router.core.programs.call import Answered
from router.core.programs.history import Calls, ClassHistory, History
from router.core.programs.program import Program
from router.core.programs.step import Source, Step
from router.core.rates import FleetRates
from router.core.types import ProgramHint, Usage

_PRIOR_OUTPUT_TOKENS = 256.0
"""Before any answer was seen: the median of agents' answers is 216 (callanjfox/kv-cache-tester)."""
_PRIOR_COMPUTED_TOKENS = 1_000.0
_PRIOR_OUTPUT_SHARE = 0.25
"""Of ``max_tokens``, which clients set to be safe."""
_MAX_HINTED_CALLS = 4096
"""Longer paths than this are not believed, ..."""
_MANY = 10.0
"""... nor, when so many programs are known that came as far, much longer ones than theirs."""


class Outlook(NamedTuple):
    """What is expected of a call of which nothing is known, the first of its program."""

    output_tokens: float
    calls_after: float
    """On the longest path, ..."""
    tail_s: float
    """... and their time."""


class Estimator:
    """Learned rates and history, applied to steps."""

    def __init__(self, rates: FleetRates, history: History) -> None:
        self.rates = rates
        self.history = history

    def first(self, history: ClassHistory, max_tokens: int | None) -> Outlook:
        """Of a class of programs."""
        calls_after = history.lengths.expected_after(1) / history.breadth()
        call_s = self._unseen(history, "") if calls_after else 0.0
        output_tokens = self._usual_tokens(history.calls(""), max_tokens)
        return Outlook(output_tokens, calls_after, _tail_s(history, calls_after, call_s))

    def unseen(self, program: Program, kind: str) -> float:
        """Seconds of a call of that kind of which nothing else is known."""
        return self._unseen(program.history, kind)

    def _unseen(self, history: ClassHistory, kind: str) -> float:
        calls = history.calls(kind)
        computed_tokens = calls.usual_computed_tokens() if calls.known else _PRIOR_COMPUTED_TOKENS
        return self.rates.call_s(computed_tokens, self._usual_tokens(calls, None))

    def declared(self, step: Step, prompt_tokens: int | None, output_tokens: int | None) -> float:
        """Seconds of a declared call; None: not told."""
        calls = step.program.history.calls(step.kind)
        step.usual_tokens = self._usual_tokens(calls, None)
        step.hinted_tokens = output_tokens
        step.output_tokens = _believed(step)
        usual_tokens = calls.usual_computed_tokens() if calls.known else _PRIOR_COMPUTED_TOKENS
        computed_tokens = usual_tokens if prompt_tokens is None else prompt_tokens * calls.computed_share()
        return self.rates.call_s(computed_tokens, step.output_tokens)

    def coming(self, step: Step, hint: ProgramHint) -> float:
        """Seconds of a call that has come and was not sent yet; sets the step's expected output."""
        calls = step.program.history.calls(step.kind)
        step.usual_tokens = self._usual_tokens(calls, step.max_tokens)
        if hint.output_tokens is not None:
            step.hinted_tokens = hint.output_tokens
        step.output_tokens = _believed(step)
        return self.rates.call_s(step.prompt_tokens * calls.computed_share(), step.output_tokens)

    def dispatched(self, step: Step) -> float:
        """Seconds of a call that was sent to where ``cached_tokens`` of its prompt are held."""
        return self.rates.call_s(max(step.prompt_tokens - step.cached_tokens, 0), step.output_tokens)

    def started(self, step: Step) -> float:
        """Seconds that are left once the first token is there."""
        return self.rates.call_s(0.0, max(step.output_tokens - 1.0, 0.0))

    def calls_after(self, step: Step, hint: ProgramHint, carried: float | None) -> tuple[float, Source]:
        """Calls expected on the longest path after the step, and what that rests on: the client's word for this step,
        but no more than its word for those before leaves, ``carried``; else that; else the history of the class."""
        program = step.program
        if hint.final:
            return 0.0, Source.HINTED
        if step.declared:
            return 0.0, Source.DECLARED
        believed = carried is not None and carried >= 0.0 and program.source is not Source.HISTORY
        if hint.remaining_steps is not None:
            told = min(float(max(hint.remaining_steps, 0)), self._longest(program))
            return (min(told, carried) if believed and carried is not None and hint.after else told), Source.HINTED
        if program.declared and program.expected:
            return 0.0, Source.DECLARED
        if believed and carried is not None:
            return carried, program.source
        history = program.history
        return history.lengths.expected_after(program.calls) / history.breadth(), Source.HISTORY

    def wait_s(self, program: Program, kind: str) -> float:
        """Expected from the end of what a step follows to its coming."""
        return program.history.waits_s(kind).mean()

    def tail_s(self, program: Program, calls: float) -> float:
        """Seconds on the path of calls that nothing is known of."""
        return _tail_s(program.history, calls, program.call_s)

    def learn_answer(self, call: Answered, usage: Usage | None) -> None:
        """The call ended well."""
        tokens = None if usage is None else usage.completion_tokens
        history = call.history
        history.called(call.kind, call.prompt_tokens, max(call.prompt_tokens - call.cached_tokens, 0), tokens)
        if tokens is None:
            return
        if call.max_tokens:
            self.history.output_share.add(min(tokens / call.max_tokens, 1.0))
        if call.hinted_tokens is not None:
            actual, hinted, usual = max(tokens, 1), max(call.hinted_tokens, 1), max(call.usual_tokens, 1.0)
            history.hinted(abs(log(actual / hinted)), abs(log(actual / usual)))
        if tokens > 1 and call.started_s is not None and call.ended_s is not None:
            self.rates.decode.observe(tokens - 1, call.ended_s - call.started_s)

    def _longest(self, program: Program) -> float:
        """Calls after the present one beyond which a client is not believed: twice what 19 of 20 programs made."""
        lengths = program.history.lengths
        if lengths.observations(program.calls) < _MANY:
            return _MAX_HINTED_CALLS
        return max(2.0 * lengths.quantile_after(program.calls, 0.95) / program.history.breadth(), 1.0)

    def _usual_tokens(self, calls: Calls, max_tokens: int | None) -> float:
        if calls.output_tokens.observations >= 1.0:
            usual = calls.output_tokens.mean()
            return usual if max_tokens is None else min(usual, max_tokens)
        if max_tokens is None:
            return _PRIOR_OUTPUT_TOKENS
        share = self.history.output_share
        return max_tokens * (share.mean() if share.known else _PRIOR_OUTPUT_SHARE)


def _tail_s(history: ClassHistory, calls: float, call_s: float) -> float:
    if not calls:
        return 0.0
    level_s = history.level_s()
    return calls * (call_s + history.waits_s("").mean() if level_s is None else level_s)


def _believed(step: Step) -> float:
    """Output tokens expected of a step: between the hint and what is usual, by how far off either was before."""
    expected = step.usual_tokens
    if step.hinted_tokens is not None:
        trust = step.program.history.hint_trust()
        hinted = max(step.hinted_tokens, 1)
        expected = hinted if trust == 1.0 else hinted**trust * max(expected, 1.0) ** (1.0 - trust)
    return float(expected if step.max_tokens is None else min(expected, step.max_tokens))
