"""The index's hash table against a dict."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.index import table

keys = st.one_of(st.integers(0, 12), st.integers(0, 2**64 - 1), st.integers(0, 30).map(lambda bit: 1 << bit))


def insert(entries: table.Table, key: int, value: int) -> int:
    while not table.has_room(entries):
        table.enlarge(entries)
    return table.insert(entries, np.uint64(key), value)


@settings(deadline=None)
@given(st.lists(st.tuples(keys, st.booleans()), max_size=300))
def test_entries_are_found_until_deleted_and_never_move(steps: list[tuple[int, bool]]) -> None:
    entries, model = table.new_table(), dict[int, int]()
    for key, wanted in steps:
        if wanted and key not in model:
            model[key] = insert(entries, key, len(model) + 1)
        elif not wanted and key in model:
            table.delete(entries, model.pop(key))
        assert entries.size == len(model)
        for known, entry in model.items():
            assert table.find(entries, np.uint64(known)) == entry
        assert key in model or table.find(entries, np.uint64(key)) == 0


def test_many_entries_keep_short_chains_and_little_slack() -> None:
    entries = table.new_table()
    numbers = np.random.default_rng(3).integers(0, 2**64, 100_000, dtype=np.uint64)
    for number in numbers:
        insert(entries, number, 1)
    assert entries.nbytes < 20 * len(numbers)
    buckets = int(entries.meta[table.BUCKETS])
    chains = np.zeros(buckets, np.int64)
    for number in numbers:
        chains[table._bucket(entries, number)] += 1
    assert chains.max() < 20
    assert all(table.find(entries, number) for number in numbers[::100])


def test_freed_entries_are_used_again() -> None:
    entries = table.new_table()
    for round_ in range(50):
        taken = [insert(entries, round_ * 1000 + i, 1) for i in range(100)]
        for entry in taken:
            table.delete(entries, entry)
    assert entries.size == 0
    assert entries.meta[table.USED] == 101


def test_an_emptied_table_is_as_new() -> None:
    entries = table.new_table()
    for key in range(500):
        insert(entries, key, 1)
    table.empty(entries)
    assert entries.size == 0
    assert all(table.find(entries, np.uint64(key)) == 0 for key in range(500))
    for key in range(500):
        assert insert(entries, key, 2) == key + 1
