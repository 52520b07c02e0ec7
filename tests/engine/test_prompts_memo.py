"""The memo forgets the least recently used entries, and never holds more than it may."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from router.engine.prompts.memo import ENTRY_OVERHEAD_BYTES, Memo

keys = st.integers(0, 8)
steps = st.lists(st.tuples(st.just("get"), keys) | st.tuples(st.just("put"), keys, st.integers(0, 900)))


@given(steps)
def test_against_a_plain_model(steps: list[tuple]) -> None:
    capacity = 4 * ENTRY_OVERHEAD_BYTES
    memo: Memo[int, int] = Memo(capacity)
    model: OrderedDict[int, int] = OrderedDict()
    for step in steps:
        if step[0] == "get":
            assert memo.get(step[1]) == model.get(step[1])
            if step[1] in model:
                model.move_to_end(step[1])
        elif step[2] + ENTRY_OVERHEAD_BYTES <= capacity:
            memo.put(step[1], step[2], step[2])
            model.pop(step[1], None)
            model[step[1]] = step[2]
            while sum(size + ENTRY_OVERHEAD_BYTES for size in model.values()) > capacity:
                model.popitem(last=False)
        assert len(memo) == len(model)
        assert memo.held_bytes == sum(size + ENTRY_OVERHEAD_BYTES for size in model.values()) <= capacity


def test_what_is_too_large_is_not_kept() -> None:
    memo: Memo[str, int] = Memo(1000)
    memo.put("small", 1, 10)
    memo.put("huge", 2, 10_000)
    assert memo.get("huge") is None
    assert memo.get("small") == 1
    assert (memo.hits, memo.misses) == (1, 1)
