"""The tree of prompts counts what a set of all prefixes would."""

from hypothesis import given
from hypothesis import strategies as st
from workload_checks import tokens

from sim.workloads.prefixes import PrefixTree
from sim.workloads.program import Context, Part
from sim.workloads.traces.blocks import BlockIds, block_parts, joined

parts = st.builds(
    Part, st.sampled_from([Context.USER, Context.ANSWER]), st.integers(0, 2), st.integers(1, 6), st.integers(0, 4)
)
prompts = st.lists(parts, min_size=1, max_size=5)


@given(st.lists(prompts, max_size=12))
def test_new_tokens_are_those_no_earlier_prompt_began_with(sequence):
    tree, seen = PrefixTree(), set()
    for prompt in sequence:
        spelled = tokens(prompt)
        prefixes = {tuple(spelled[: end + 1]) for end in range(len(spelled))}
        assert tree.add(prompt) == len(prefixes - seen)
        seen |= prefixes


@given(prompts)
def test_joining_keeps_the_tokens(prompt):
    made = joined(prompt)
    assert tokens(made) == tokens(prompt)
    assert len(made) <= len(prompt)
    assert joined(made) == made


@given(st.lists(st.integers(0, 6), max_size=6), st.integers(1, 40), st.integers(1, 8))
def test_a_prompt_has_the_length_it_is_said_to_have(ids, prompt_tokens, block_size):
    made = block_parts(ids, block_size, prompt_tokens, Context.USER, stream=0, tail_stream=1)
    spelled = tokens(made)
    assert len(spelled) == prompt_tokens
    covered = min(prompt_tokens, len(ids) * block_size)
    assert (
        spelled[:covered] == [(0, each * block_size + index) for each in ids for index in range(block_size)][:covered]
    )
    assert [stream for stream, _ in spelled[covered:]] == [1] * (prompt_tokens - covered)


def test_ids_that_run_on_are_one_part():
    made = block_parts([3, 4, 5, 9], 16, 60, Context.USER, stream=0, tail_stream=1)
    assert made == (Part(Context.USER, 0, 48, 48), Part(Context.USER, 0, 12, 144))


@given(st.lists(st.text("ab", max_size=12), max_size=10), st.integers(1, 4))
def test_texts_share_the_blocks_that_they_begin_with_alike(texts, block_size):
    ids = BlockIds(block_size)
    made = [ids.of(text) for text in texts]
    for text, blocks in zip(texts, made, strict=True):
        assert len(blocks) == len(text) // block_size
        for other, others in zip(texts, made, strict=True):
            for index in range(min(len(blocks), len(others))):
                end = (index + 1) * block_size
                assert (blocks[index] == others[index]) == (text[:end] == other[:end])


def test_block_ids_of_new_text_run_on():
    ids = BlockIds(2)
    assert ids.of("aabbcc") == [0, 1, 2]
    assert ids.of("aabbddee") == [0, 1, 3, 4]
    assert ids.of("zz") == [5]
