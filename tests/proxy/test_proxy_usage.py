"""Usage is found wherever vLLM says it, and nowhere else."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_rig import DONE, END, delta, event

from router.core.types import Usage
from router.proxy.usage import find_usage

SAMPLES = Path(__file__).parents[3] / "shared" / "vllm" / "samples"


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}, Usage(7, None, 2)),
        ({"usage": {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}}, Usage(7, 4, None)),
        ({"usage": {"prompt_tokens": 7, "prompt_tokens_details": None}}, Usage(7, None, None)),
        (
            {"usage": {"input_tokens": 7, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}},
            Usage(7, 4, 2),
        ),
        ({"usage": {"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": 4}}, Usage(7, 4, 2)),
        ({"usage": {"unknown": 1}}, Usage()),
        ({"usage": None}, None),
        ({"usage": {"prompt_tokens": "many"}}, None),
        ({"text": '"usage":{"prompt_tokens":1}'}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_an_unstreamed_answer_says_it_in_its_body(answer, usage, separators):
    assert find_usage(json.dumps({"id": 1, **answer, "last": None}, separators=separators).encode()) == usage


def test_a_stream_says_it_in_its_last_event():
    usage = event(b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}')
    assert find_usage(delta("hi") + usage + DONE + END) == Usage(7, None, 2)


def test_of_several_the_last_counts():
    events = [event(b'{"usage":{"prompt_tokens":7,"completion_tokens":%d}}' % count) for count in range(3)]
    assert find_usage(b"".join(events)) == Usage(7, None, 2)
    assert find_usage(b"".join(events) + event(b'{"usage":null}')) == Usage(7, None, 2)


@given(st.binary(max_size=80) | st.text('"usage":{}12, pmrot_kens', max_size=60).map(str.encode))
def test_any_bytes_are_survived(noise):
    find_usage(noise)
    find_usage(b'"usage":' + noise)


@pytest.mark.skipif(not SAMPLES.exists(), reason="the recorded vLLM answers are not beside this checkout")
@pytest.mark.parametrize(
    ("sample", "usage"),
    [
        ("chat_nonstream", Usage(28, 0, 8)),
        ("chat_stream_usage", Usage(16, 0, 4)),
        ("chat_stream_continuous_usage", Usage(16, 0, 3)),
        ("completions_stream_usage", Usage(12, 0, 4)),
        ("messages_anthropic", Usage(16, 0, 4)),
        ("messages_anthropic_stream", Usage(16, 0, 3)),
        ("responses_nonstream", Usage(16, 0, 4)),
        ("chat_stream", None),
    ],
)
def test_recorded_answers(sample, usage):
    assert find_usage((SAMPLES / f"{sample}.txt").read_bytes()) == usage
