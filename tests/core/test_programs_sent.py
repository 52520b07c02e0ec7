"""What a program sends again, and what of it is computed again."""

import numpy as np
from house import House, prompt
from hypothesis import given
from hypothesis import strategies as st

from router.core.programs.sent import Sent
from router.core.programs.tracker import Programs
from router.core.types import Outcome, ProgramHint, Usage


def hashes(path):
    """Chained: element i stands for all before it, too. ``path`` is any text, a block each letter."""
    return np.array([hash(path[: end + 1]) & (2**64 - 1) for end in range(len(path))], np.uint64)


def test_the_longest_earlier_prompt_that_it_begins_with_counts():
    sent = Sent()
    assert [sent.note(hashes(path)) for path in ("ab", "abcd", "abx", "abcdef", "q", "abcde")] == [0, 2, 2, 4, 0, 4]


def test_a_prompt_that_comes_again_was_sent_before_all_of_it():
    sent = Sent()
    sent.note(hashes("abc"))
    assert sent.note(hashes("abc")) == 3


@given(st.lists(st.text("ab", max_size=6), max_size=16))
def test_it_agrees_with_one_who_keeps_all_prompts(paths):
    sent, before = Sent(), [""]
    for path in paths:
        assert sent.note(hashes(path)) == max(len(each) for each in before if path.startswith(each))
        before.append(path)


def test_only_the_last_prompts_are_kept():
    sent = Sent()
    for letter in "abcdefghijklmnopqrstuvwxyz":
        sent.note(hashes(letter))
    assert [sent.note(hashes(letter + "!")) for letter in "za"] == [1, 0]


def test_what_no_cache_had_left_of_an_earlier_prompt_is_computed_again():
    house = House(2, programs=Programs())
    table = house.router.programs.table

    def call(usage, *parts):
        ticket = house.ask(prompt(*parts), program=ProgramHint("p"))
        house.router.on_response_end(ticket, usage, Outcome.OK, house.now)
        return table.get(("", "p")).recomputed_tokens

    assert call(Usage(160, 0, 10), ("a", 160)) == 0
    assert call(Usage(320, 160, 10), ("a", 160), ("b", 160)) == 0
    assert call(Usage(480, 64, 10), ("a", 160), ("b", 160), ("c", 160)) == 256
    assert call(Usage(160, 0, 10), ("d", 160)) == 256
    assert table.stats.recomputed_tokens == 256
