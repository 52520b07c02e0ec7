"""Leg 1 computes exactly the prompt; both legs carry everything else as the client wrote it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kv_transfer_bodies import CHAT, COMPLETIONS, MESSAGES, PATHS, RESPONSES, bodies, fields, legs

from router.engine.kv_transfer.connector import HandOverError, make_connector

PARAMS = b'{"do_remote_prefill": true, "do_remote_decode":false,"remote_block_ids":[[1,2]], "later": {"x":[1.50]}}'
ANSWER = b'{"choices":[{"finish_reason":"length"}],"kv_transfer_params":' + PARAMS + b"}"
ENGINES = b'{"0":{"engine_id":"e-0","worker_addr":{"0":{"0":"tcp://10.0.0.1:4000"}}}}'

NAMES = ("nixl", "mooncake", "sglang", "shared-storage")
OWN_FIELDS = {
    "nixl": {"kv_transfer_params"},
    "mooncake": {"kv_transfer_params"},
    "sglang": {"bootstrap_host", "bootstrap_port", "bootstrap_room"},
    "shared-storage": set(),
}
ONE_TOKEN = {
    CHAT: {"max_tokens", "stream", "ignore_eos"},
    COMPLETIONS: {"max_tokens", "stream", "ignore_eos"},
    RESPONSES: {"max_output_tokens", "stream", "store"},
    MESSAGES: {"max_tokens", "stream"},
}


def connector(name):
    made = make_connector(name)
    if made.directory is not None:
        made.directory.learn(legs().prefill, ENGINES)
    return made


@given(body=bodies(), name=st.sampled_from(NAMES), path=st.sampled_from(PATHS))
def test_fields_that_are_nobody_s_business_are_the_same_bytes_on_both_legs(body, name, path):
    made = connector(name)
    if not made.serves(path):
        return
    before = fields(body)
    first = fields(made.prefill_body(body, legs(path)))
    second = fields(made.decode_body(body, legs(path), ANSWER))
    set_on_first = OWN_FIELDS[name] | (ONE_TOKEN[path] if name != "sglang" else {"stream"})
    for name_of_field, text in before.items():
        if name_of_field not in set_on_first:
            assert first[name_of_field] == text
        if name_of_field not in OWN_FIELDS[name]:
            assert second[name_of_field] == text
    assert set(first) <= set(before) | set_on_first
    assert set(second) <= set(before) | OWN_FIELDS[name]


@given(body=bodies())
def test_the_decode_leg_of_a_shared_store_is_the_request_itself(body):
    assert make_connector("shared-storage").decode_body(body, legs(), b"") is body


ANSWERING = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "n": 1,
    "best_of": 1,
    "logprobs": True,
    "top_logprobs": 5,
    "min_tokens": 8,
    "stop": ["\n"],
    "stop_token_ids": [2],
    "echo": False,
    "ignore_eos": False,
    "structured_outputs": {"json": {}},
    "guided_regex": "a*",
    "return_token_ids": True,
}
"""What says how to answer, and contradicts an answer of one token or costs the prefill replica time."""


@pytest.mark.parametrize("name", ["nixl", "mooncake", "shared-storage"])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_the_prefill_leg_asks_for_one_unstreamed_token_that_ends_the_answer(name, path):
    body = json.dumps({"model": "m", "max_tokens": 500, **ANSWERING}).encode()
    first = fields(connector(name).prefill_body(body, legs(path)))
    first.pop("kv_transfer_params", None)
    assert first == {"model": b'"m"', "max_tokens": b"1", "stream": b"false", "ignore_eos": b"true"}


@pytest.mark.parametrize(
    ("path", "said", "bounds"),
    [
        (CHAT, {}, {"max_tokens"}),
        (CHAT, {"max_tokens": 9}, {"max_tokens"}),
        (CHAT, {"max_completion_tokens": 9}, {"max_completion_tokens"}),
        (CHAT, {"max_completion_tokens": None, "max_tokens": 9}, {"max_completion_tokens", "max_tokens"}),
        (COMPLETIONS, {}, {"max_tokens"}),
        (RESPONSES, {"max_output_tokens": 9}, {"max_output_tokens"}),
        (RESPONSES, {}, {"max_output_tokens"}),
        (MESSAGES, {"max_tokens": 9, "stop_sequences": ["x"]}, {"max_tokens"}),
    ],
)
def test_the_bound_of_each_api_is_the_one_that_is_set(path, said, bounds):
    first = fields(connector("nixl").prefill_body(json.dumps(said).encode(), legs(path)))
    assert {name for name in first if name.startswith("max_")} == bounds
    assert all(first[name] == b"1" for name in bounds)


def test_a_response_that_only_prefills_is_not_stored():
    first = fields(connector("nixl").prefill_body(b'{"input":"x","store":true}', legs(RESPONSES)))
    assert first["store"] == b"false"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param(CHAT, {"n": 2}, id="two answers of one prompt"),
        pytest.param(COMPLETIONS, {"best_of": 3}, id="the best of three"),
        pytest.param(COMPLETIONS, {"use_beam_search": True}, id="a beam search"),
        pytest.param(COMPLETIONS, {"prompt": ["a", "b"]}, id="two prompts"),
        pytest.param(COMPLETIONS, {"prompt": [[1, 2], [3]]}, id="two prompts of token ids"),
        pytest.param(COMPLETIONS, {"prompt_embeds": "AAAA"}, id="a prompt of embeddings"),
        pytest.param(COMPLETIONS, {"echo": True, "logprobs": 0}, id="logprobs of the prompt, by echo"),
        pytest.param(CHAT, {"prompt_logprobs": 0}, id="logprobs of the prompt"),
        pytest.param(CHAT, {"truncate_prompt_tokens": -1}, id="a prompt cut to what max_tokens leaves"),
        pytest.param(CHAT, {"kv_transfer_params": {"do_remote_decode": True}}, id="somebody else disaggregates"),
        pytest.param(RESPONSES, {"truncation": "auto"}, id="a response's prompt cut to fit"),
        pytest.param(RESPONSES, {"previous_response_id": "resp_1"}, id="a response to what one replica remembers"),
        pytest.param(RESPONSES, {"background": True}, id="a response in the background"),
        pytest.param(RESPONSES, {"tools": [{"type": "function"}, {"type": "web_search"}]}, id="tools of the engine"),
        pytest.param(RESPONSES, {"tools": 1}, id="tools that are none"),
    ],
)
@pytest.mark.parametrize("name", ["nixl", "mooncake", "shared-storage"])
def test_a_request_that_cannot_be_split_says_why(name, path, said):
    with pytest.raises(HandOverError, match=r"\w"):
        connector(name).prefill_body(json.dumps(said).encode(), legs(path))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (CHAT, {"n": None, "prompt_logprobs": None, "kv_transfer_params": None, "echo": True}),
        (COMPLETIONS, {"prompt": ["only one"], "echo": False, "logprobs": 3}),
        (COMPLETIONS, {"prompt": [1, 2, 3], "use_beam_search": False}),
        (COMPLETIONS, {"prompt": [[1, 2, 3]]}),
        (COMPLETIONS, {"prompt": "[1], [2]", "echo": True}),
        (RESPONSES, {"truncation": "disabled", "background": False, "tools": [{"type": "function", "name": "f"}]}),
    ],
)
def test_what_only_looks_like_it_is_split(path, said):
    assert connector("nixl").prefill_body(json.dumps(said).encode(), legs(path))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a":NaN}', b'{"a":', b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", NAMES)
def test_a_body_that_is_no_object_stays_in_one_piece(name, body):
    with pytest.raises(HandOverError):
        connector(name).prefill_body(body, legs())


def test_paths():
    for name in ("nixl", "mooncake", "shared-storage"):
        assert all(make_connector(name).serves(path) for path in PATHS)
    for name in NAMES:
        assert not make_connector(name).serves("/v1/embeddings")
    assert make_connector("sglang").serves(CHAT)
    assert not make_connector("sglang").serves(MESSAGES)


def test_a_name_that_nobody_has():
    with pytest.raises(ValueError, match="nixl, mooncake, sglang, shared-storage"):
        make_connector("nixi")
