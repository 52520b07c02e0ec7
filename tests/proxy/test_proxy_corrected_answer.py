"""Where an answer says how much was cached, and where it only seems to."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.proxy.corrected_answer import with_cached_tokens


@pytest.mark.parametrize(
    ("said", "corrected"),
    [
        pytest.param(
            b'{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":0}}}',
            b'{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":1234}}}',
            id="completions",
        ),
        pytest.param(
            b'{"usage" : 1, "usage": {"prompt_tokens_details": {"cached_tokens" :  77, "x": 1}}}',
            b'{"usage" : 1, "usage": {"prompt_tokens_details": {"cached_tokens" :  1234, "x": 1}}}',
            id="spaces",
        ),
        pytest.param(
            b'{"usage":{"input_tokens_details":{"cached_tokens":5,"cached_tokens_per_turn":[5]},"output_tokens":1}}',
            b'{"usage":{"input_tokens_details":{"cached_tokens":1234,"cached_tokens_per_turn":[5]},"output_tokens":1}}',
            id="responses",
        ),
        pytest.param(
            b'{"usage":{"prompt_tokens_details":{"cached_tokens":1}}}\n' * 12,
            b'{"usage":{"prompt_tokens_details":{"cached_tokens":1234}}}\n' * 12,
            id="usage in every chunk",
        ),
    ],
)
def test_it_is_corrected(said, corrected):
    assert with_cached_tokens(said, 1234) == corrected


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b'{"usage":null,"cached_tokens":5}',
        b'{"usage":{"prompt_tokens_details":null}}',
        b'{"usage":{"prompt_tokens_details":{"cached_tokens":null}}}',
        b'{"usage":{"cache_read_input_tokens":5},"cached_tokens":5}',
        rb'{"text":"\"usage\":{\"cached_tokens\":5}"}',
        b'{"usage":{"cached_tokens":5',
    ],
)
def test_what_says_nothing_of_it_is_left_alone(said):
    assert with_cached_tokens(said, 1234) == said


@given(st.text(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_any_text_stays_as_it_is(text, before, after):
    answer = {"choices": [{"text": text}], "usage": {"prompt_tokens_details": {"cached_tokens": before}}}
    corrected = json.loads(with_cached_tokens(json.dumps(answer, separators=(",", ":")).encode(), after))
    answer["usage"]["prompt_tokens_details"]["cached_tokens"] = after
    assert corrected == answer
