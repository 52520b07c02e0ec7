"""The body of a warm-up: the call's own, with an answer of one token."""

from __future__ import annotations

import json

import pytest

from router.warm_up_body import can_be_repeated, with_one_token

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def rewritten(path, body):
    return json.loads(with_one_token(path, json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("path", "asked", "sent"),
    [
        (CHAT, {}, {"max_tokens": 1}),
        (CHAT, {"max_tokens": 500}, {"max_tokens": 1}),
        (CHAT, {"max_completion_tokens": 500}, {"max_completion_tokens": 1}),
        (CHAT, {"max_completion_tokens": 5, "max_tokens": 5}, {"max_completion_tokens": 1, "max_tokens": 1}),
        (COMPLETION, {"max_tokens": None}, {"max_tokens": 1}),
        (CHAT, {"stream": True, "stream_options": {"include_usage": True}}, {"stream": False, "max_tokens": 1}),
        (COMPLETION, {"n": 4, "best_of": 8, "echo": True, "min_tokens": 20, "logprobs": 3}, {"max_tokens": 1}),
        (CHAT, {"response_format": {"type": "json_object"}, "priority": -7}, {"max_tokens": 1}),
    ],
)
def test_one_token_is_asked_for_and_nothing_that_contradicts_it(path, asked, sent):
    assert rewritten(path, {"model": "m", "prompt": "x", **asked}) == {"model": "m", "prompt": "x", **sent}


def test_what_makes_the_prompt_stays_byte_for_byte():
    kept = (
        b'"messages":[{"role":"user","content":"\\u00e9 \\ud83d\\ude42"}],"tools":[{"n":1.0e3,"n2":1e400,'
        b'"big":123456789012345678901234567890}],"cache_salt":"s","chat_template_kwargs":{"a": true}'
    )
    sent = with_one_token(CHAT, b"{" + kept + b',"max_tokens":9}')
    for field in (kept[: kept.index(b',"tools"')], kept[kept.index(b'"tools"') : kept.index(b',"cache_salt"')]):
        assert field in sent


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a": NaN}', b"[" * 100_000])
def test_what_cannot_be_read_is_not_sent(body):
    with pytest.raises(ValueError, match=r".+"):
        with_one_token(CHAT, body)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/chat/completions/x"])
def test_other_endpoints_are_left_alone(path):
    assert not can_be_repeated(path)
