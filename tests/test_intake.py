"""From path, headers and body to the core's Request."""

import inspect

import msgspec
import pytest

from router.core.types import Prompt
from router.engine.prompts.maker import PromptMaker
from router.engine.prompts.text import TextPrompts
from router.errors import ApiError
from router.intake import SESSION_HEADERS, Intake

BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "hello there"}],
    "stream": True,
    "max_tokens": 7,
    "cache_salt": "tenant",
    "session_id": "from the body",
}


@pytest.fixture
def read():
    intake = Intake(PromptMaker(TextPrompts()))

    def read(headers=(), path="/v1/chat/completions", **changes):
        fields = {key: value for key, value in (BODY | changes).items() if value is not None}
        request = intake.read(path, list(headers), msgspec.json.encode(fields))
        assert not inspect.isawaitable(request)
        return request

    return read


def test_what_the_body_says(read):
    request = read()
    assert (request.model, request.streams, request.max_tokens, request.cache_salt) == ("m", True, 7, "tenant")
    assert isinstance(request.prompt, Prompt)
    assert not request.prompt.exact
    assert request.session_id == "from the body"
    assert not request.explain


def test_no_model_is_an_empty_name(read):
    assert read(model=None).model == ""


@pytest.mark.parametrize("name", SESSION_HEADERS)
def test_every_session_header_of_agent_tools_is_understood(read, name):
    assert read([(name, b"abc")]).session_id == "abc"


def test_the_more_specific_session_header_wins(read):
    assert read([(b"x-correlation-id", b"trace"), (b"x-session-id", b"session")]).session_id == "session"


def test_hints_from_strangers_are_cut_to_size(read):
    request = read([(b"x-session-id", b"\xff" * 10_000), (b"x-weft-profile", b"p" * 10_000)])
    assert len(request.session_id) == len(request.profile) == 256


def test_explanations_are_given_on_request_only(read):
    assert read([(b"x-weft-explain", b"1")]).explain
    assert not read([(b"x-weft-explain", b"0")]).explain


def test_paths_without_a_prompt_are_routed_by_load(read):
    assert read(path="/v1/embeddings", input="text").prompt is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 5}'])
def test_bodies_that_no_replica_could_accept_are_refused(body):
    with pytest.raises(ApiError) as error:
        Intake(PromptMaker(TextPrompts())).read("/v1/chat/completions", [], body)
    assert error.value.status == 400


def test_a_body_that_is_not_json_is_routed_by_load():
    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"x-session-id", b"s")]
    request = Intake(PromptMaker(TextPrompts())).read("/v1/audio/transcriptions", headers, b"")
    assert (request.model, request.prompt, request.session_id) == ("", None, "s")
