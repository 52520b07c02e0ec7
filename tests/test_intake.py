"""From path, headers and body to the core's Request."""

import inspect

import msgspec
import pytest

from router.core.types import Prompt
from router.engine.prompts.maker import PromptMaker
from router.engine.prompts.text import TextPrompts
from router.errors import ApiError
from router.hints.settings import IdentitySettings
from router.intake import Intake

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


def test_headers_are_believed_before_the_body(read):
    assert read([(b"x-session-id", b"from the header")]).session_id == "from the header"


def test_the_program_is_known_by_header_or_body(read):
    hinted = read([(b"x-program-id", b"run-1"), (b"x-program-step", b"plan")]).program
    assert (hinted.id, hinted.step) == ("run-1", "plan")
    assert read(program_id="run-2").program.id == "run-2"
    assert read().program.id == "from the body"


def test_a_request_that_says_nothing_has_no_program(read):
    request = read(session_id=None)
    assert (request.program, request.session_id, request.tenant) == (None, "", "")


def test_requests_with_different_keys_are_of_different_tenants(read):
    first, second, again = (read([(b"authorization", b"Bearer " + key)]).tenant for key in (b"a", b"b", b"a"))
    assert first == again != second


def test_a_priority_is_granted_by_configuration_alone():
    settings = IdentitySettings(tenant_header="x-weft-tenant", max_priority_of={"paying": 5})
    intake = Intake(PromptMaker(TextPrompts()), settings)

    def priority(tenant, asked):
        headers = [(b"x-weft-tenant", tenant), (b"x-program-id", b"p"), (b"x-program-priority", asked)]
        return intake.read("/v1/completions", headers, b'{"prompt": "a"}').program.priority

    assert [priority(b"paying", b"3"), priority(b"paying", b"9")] == [3, 5]
    assert [priority(b"stranger", b"9"), priority(b"stranger", b"-9")] == [0, -9]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"prompt": "a"}', False),
        (b'{"prompt": "\\"priority\\": 1", "metadata": {"priority": 1}}', False),
        (b'{"prompt": "a", "priority": -9}', True),
        (b'{"prompt": "a", "priority": null}', True),
        (b'{"prompt": "a", "priority": -9, "priority": 0}', True),
        (b'{"prompt": "a", "pr\\u0069ority": -9}', True),
    ],
)
def test_a_body_that_tells_the_engine_a_priority_is_noticed_however_it_is_written(body, says):
    assert Intake(PromptMaker(TextPrompts())).read("/v1/completions", [], body).says_priority is says


def test_malformed_hints_are_counted_and_left_out():
    intake = Intake(PromptMaker(TextPrompts()))
    headers = [(b"x-program-id", b"i" * 10_000), (b"x-session-id", b"\xff"), (b"x-weft-profile", b"p" * 10_000)]
    request = intake.read("/v1/completions", headers, b'{"prompt": "a"}')
    assert (request.program, request.session_id, len(request.profile)) == (None, "", 256)
    assert intake.warnings == {"x-program-id: too long": 1, "x-session-id: not printable ASCII": 1}


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
