"""When a program in a tool wait is expected back, the longer it has been away the later."""

from __future__ import annotations

from math import inf

from router.core.programs.call import Call

_LEAST_SEEN = 3.0
_UNKNOWN_S = 10.0
"""Before any wait was seen. Agents' tools take 9 s in the median (callanjfox/kv-cache-tester)."""


def expected_return_s(call: Call | None, away_s: float) -> float:
    """Median time to the next call of a program whose last call, ``call``, ended ``away_s`` ago; infinite when there
    will be none. Waits have a heavy tail: without a history, as long again as it has been away."""
    lindy_s = max(_UNKNOWN_S, away_s)
    if call is None:
        return lindy_s
    if call.final:
        return inf
    waits = call.waits_s()
    if waits.observations < _LEAST_SEEN:
        return lindy_s
    longer = waits.above(away_s)
    return max(waits.quantile(1.0 - longer / 2.0) - away_s, 0.0) if longer > 0.0 else lindy_s
