"""When an answer is taken for an answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.types import Outcome
from router.proxy.first_look import EventLook, FailureLook, JsonLook, Refused, Undecided, look_at
from router.proxy.heads import ResponseHead

HOLD, PASS = Undecided.HOLD, Undecided.PASS


def head(status: int = 200, content_type: bytes = b"application/json", length: int | None = 10) -> ResponseHead:
    return ResponseHead(status, b"", [], chunked=length is None, length=length, content_type=content_type)


def data(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def chat(delta: dict[str, object], finish: str | None = None) -> bytes:
    return data(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


def text(text: str, finish: str | None = None) -> bytes:
    return data(choices=[{"index": 0, "text": text, "finish_reason": finish}])


ROLE = chat({"role": "assistant", "content": ""})


@pytest.mark.parametrize(
    ("stream", "verdict"),
    [
        (b"", HOLD),
        (b'data: {"choices":[{"text":"a', HOLD),
        (ROLE, HOLD),
        (text(""), HOLD),
        (b"event: message_start\n" + data(type="message_start", message={"usage": {"input_tokens": 1}}), HOLD),
        (data(type="response.created"), HOLD),
        (data(type="response.in_progress"), HOLD),
        (text("a"), PASS),
        (ROLE + chat({"content": "a"}), PASS),
        (chat({"content": None, "reasoning": "hm"}), PASS),
        (chat({"tool_calls": [{"index": 0}]}), PASS),
        (chat({}, "stop"), PASS),
        (text("", "length"), PASS),
        (text("half an ans", "abort"), PASS),
        (data(choices=[], usage={"prompt_tokens": 1}), HOLD),
        (data(type="response.output_text.delta", delta="a"), PASS),
        (data(error=None, choices=[{"text": "a"}]), PASS),
        (b": keep-alive\n\n", PASS),
        (b"data: not JSON\n\n", PASS),
        (b"id: 7\n\n", PASS),
        (b'data: {"choices":7}\n\n', PASS),
        (text("a").replace(b"\n", b"\r\n"), PASS),
    ],
)
def test_a_stream_is_held_until_it_says_something(stream, verdict):
    assert EventLook().judge(bytearray(stream), final=False) is verdict


@pytest.mark.parametrize(
    ("stream", "outcome", "status", "message"),
    [
        (data(error={"message": "full", "code": 503}), Outcome.REJECTED, 503, "full"),
        (data(error={"message": "died", "code": 500, "type": "X"}), Outcome.FAILED, 500, "died"),
        (data(error={"message": "no code"}), Outcome.FAILED, 500, "no code"),
        (data(error={"message": "odd code", "code": "overloaded"}), Outcome.FAILED, 500, "odd code"),
        (data(error="only words"), Outcome.FAILED, 500, "did not say why"),
        (ROLE + data(error={"message": "late", "code": 500}), Outcome.FAILED, 500, "late"),
        (b"event: error\n" + data(type="error", error={"message": "anthropic"}), Outcome.FAILED, 500, "anthropic"),
        (ROLE + chat({"content": ""}, "abort"), Outcome.REJECTED, 503, "shutting down"),
        (text("", "abort"), Outcome.REJECTED, 503, "shutting down"),
        (b"data: [DONE]\n\n", Outcome.REJECTED, 503, "shutting down"),
        (data(choices=[], usage={"prompt_tokens": 1}) + b"data: [DONE]\n\n", Outcome.REJECTED, 503, "shutting down"),
        (data(error={"message": "crlf", "code": 503}).replace(b"\n", b"\r\n"), Outcome.REJECTED, 503, "crlf"),
    ],
)
def test_a_stream_that_is_none_is_refused(stream, outcome, status, message):
    verdict = EventLook().judge(bytearray(stream + text("more")), final=False)
    assert isinstance(verdict, Refused)
    assert (verdict.outcome, verdict.error.status) == (outcome, status)
    assert message in verdict.error.message


def test_an_error_about_the_request_is_an_answer():
    assert EventLook().judge(bytearray(data(error={"message": "too long", "code": 400})), False) is PASS


def test_a_stream_that_ended_without_a_word_is_an_answer():
    assert EventLook().judge(bytearray(ROLE), final=True) is PASS


@given(st.sampled_from([ROLE + text("a"), ROLE + text("", "abort"), data(error={"code": 503})]), st.data())
def test_however_a_stream_arrives_the_verdict_is_the_same(stream, data):
    whole = EventLook().judge(bytearray(stream), final=False)
    points = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1))))
    look = EventLook()
    verdicts = [look.judge(bytearray(stream[:point]), final=False) for point in [*points, len(stream)]]
    final = next(verdict for verdict in verdicts if verdict is not HOLD)
    assert type(final) is type(whole)


def test_an_unstreamed_answer_is_judged_whole():
    body = json.dumps({"choices": [{"message": {"content": ""}, "finish_reason": "abort"}]}).encode()
    look = JsonLook()
    assert look.judge(bytearray(body[:-1]), final=False) is HOLD
    assert isinstance(look.judge(bytearray(body), final=True), Refused)
    for answer in (
        {"choices": [{"message": {"content": "a"}, "finish_reason": "abort"}]},
        {"choices": [{"message": {"content": 'say "abort"'}, "finish_reason": "stop"}]},
        {"choices": [{"text": "", "finish_reason": "abort"}, {"text": "b", "finish_reason": "abort"}]},
        {"data": [{"embedding": [1.0]}]},
    ):
        assert look.judge(bytearray(json.dumps(answer).encode()), final=True) is PASS
    assert look.judge(bytearray(b'"abort" is not JSON'), final=True) is PASS


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"died","type":"InternalServerError"}}', "died"),
        (b'{"detail":"nope"}', "did not say why"),
        (b"<html>", "did not say why"),
        (b"", "did not say why"),
    ],
)
def test_a_failing_status_is_kept_with_its_reason(body, message):
    look = FailureLook(head(500))
    assert look.judge(bytearray(body), final=False) is HOLD
    verdict = look.judge(bytearray(body), final=True)
    assert isinstance(verdict, Refused)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.error.status == 500
    assert message in verdict.error.message


@pytest.mark.parametrize(
    ("response", "look"),
    [
        (head(), JsonLook),
        (head(length=None), JsonLook),
        (head(content_type=b"text/event-stream", length=None), EventLook),
        (head(500), FailureLook),
        (head(503), FailureLook),
        (head(502), FailureLook),
        (head(504), FailureLook),
        (head(length=1000), type(None)),
        (head(400), type(None)),
        (head(429), type(None)),
        (head(501), type(None)),
        (head(content_type=b"audio/mpeg"), type(None)),
    ],
)
def test_what_is_looked_at(response, look):
    assert type(look_at(response, hold_bytes=100)) is look
