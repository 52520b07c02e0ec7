"""What is read of a request body, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.engine.api import ApiKind, ApiRequest, present, read_body, says_transfer
from router.errors import ApiError

CHAT = "/v1/chat/completions"


def read(body: Any, path: str = CHAT) -> ApiRequest:
    return read_body(path, body if isinstance(body, bytes) else json.dumps(body).encode())


def refusal(body: Any, path: str = CHAT) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(body, path)
    assert caught.value.status == 400
    return caught.value


def read_or_refused(path: str, body: bytes) -> bool:
    try:
        return says_transfer(read_body(path, body).body) in (True, False)
    except ApiError as error:
        return error.status == 400


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (CHAT, ApiKind.CHAT),
        ("/v1/completions", ApiKind.COMPLETION),
        ("/v1/responses", ApiKind.RESPONSES),
        ("/v1/messages", ApiKind.MESSAGES),
        ("/v1/embeddings", ApiKind.EMBEDDINGS),
        ("/v1/audio/transcriptions", ApiKind.OTHER),
        ("/v1/messages/count_tokens", ApiKind.OTHER),
        ("/v1/chat/completions?api-version=1", ApiKind.CHAT),
        ("/v1/responses/", ApiKind.RESPONSES),
    ],
)
def test_the_path_tells_the_kind(path: str, kind: ApiKind) -> None:
    assert read({"model": "m"}, path).kind is kind


def test_what_decides_routing_is_read() -> None:
    api = read({"model": "m", "stream": True, "max_tokens": 5, "cache_salt": "s", "user": "u", "temperature": 1})
    assert (api.model, api.stream, api.max_tokens, api.cache_salt, api.user) == ("m", True, 5, "s", "u")


def test_nothing_is_required() -> None:
    api = read({})
    assert (api.model, api.stream, api.max_tokens, api.cache_salt, api.user) == (None, False, None, "", "")


def test_prompts_stay_raw() -> None:
    api = read(b'{"messages": [ {"role":"user"} ], "tools": null}')
    assert bytes(api.body.messages) == b'[ {"role":"user"} ]'
    assert not present(api.body.tools)
    assert not present(api.body.system)


@pytest.mark.parametrize(
    ("body", "max_tokens"),
    [
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
        ({"max_completion_tokens": None, "max_tokens": 5}, 5),
        ({"max_output_tokens": 9}, 9),
        ({"max_tokens": "12"}, 12),
        ({"max_tokens": 12.0}, 12),
        ({"max_tokens": 0}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 10**25}, None),
    ],
)
def test_max_tokens(body: dict[str, Any], max_tokens: int | None) -> None:
    assert read(body).max_tokens == max_tokens


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_an_empty_body_is_refused(body: bytes) -> None:
    assert "empty" in refusal(body).message


def test_broken_json_is_refused_with_its_position() -> None:
    assert "char 9" in refusal(b'{"model":}').message


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null"])
def test_only_objects_are_requests(body: bytes) -> None:
    assert "object" in refusal(body).message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 5),
        ("model", ["m"]),
        ("model", "\ud800"),
        ("stream", "maybe"),
        ("stream", []),
        ("max_tokens", "many"),
        ("max_tokens", 1.5),
        ("max_tokens", [1]),
        ("cache_salt", {}),
        ("messages", None),
        ("messages", "hello"),
        ("messages", {"role": "user"}),
    ],
)
def test_a_wrong_type_is_refused_by_name(field: str, value: Any) -> None:
    error = refusal({field: value})
    assert error.param == field
    assert json.loads(error.body())["error"]["param"] == field


@pytest.mark.parametrize("prompt", [{"a": 1}, 5, True])
def test_a_prompt_is_text_or_ids(prompt: Any) -> None:
    assert refusal({"prompt": prompt}, "/v1/completions").param == "prompt"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "temperature": NaN}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'\xef\xbb\xbf{"model": "m"}',
        '{"model": "m"}'.encode("utf-16"),
    ],
    ids=["NaN", "lone surrogate", "byte order mark", "UTF-16"],
)
def test_what_only_python_reads_passes_with_nothing_to_hash(body: bytes) -> None:
    api = read(body)
    assert api.model == "m"
    assert not present(api.body.messages)


@pytest.mark.parametrize(
    "body",
    [
        {"kv_transfer_params": {"do_remote_prefill": True}},
        {"kv_transfer_params": {}},
        {"vllm_xargs": {"kv_transfer_params": "anything"}},
        {"sampling_params": {"extra_args": {"kv_transfer_params": {}}}},
    ],
)
@pytest.mark.parametrize(
    "written",
    [
        json.dumps,
        lambda body: json.dumps(body).replace("transfer", "tr\\u0061nsfer"),
        lambda body: json.dumps(body | {"temperature": float("nan")}),
        lambda body: json.dumps(body).replace('{"kv', '{"large": 1e999, "kv'),
        lambda body: json.dumps(body).encode("utf-16"),
    ],
    ids=["as it is", "escaped", "with NaN", "with a large number", "UTF-16"],
)
def test_however_a_client_names_blocks_it_is_seen(body: dict[str, Any], written: Callable[[Any], str | bytes]) -> None:
    text = written(body)
    assert says_transfer(read(text if isinstance(text, bytes) else text.encode()).body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kv_transfer_params": None},
        {"vllm_xargs": {"session_id": "kv_transfer_params"}},
        {"vllm_xargs": ["kv_transfer_params"]},
        {"sampling_params": {"extra_args": None}},
        {"sampling_params": 1},
    ],
)
def test_who_names_no_blocks_is_not_taken_to(body: dict[str, Any]) -> None:
    assert not says_transfer(read(body).body)


def test_a_priority_is_seen_in_what_only_python_reads() -> None:
    assert read(b'{"priority": 1, "temperature": NaN}').body.priority == 1


@pytest.mark.parametrize("field", ["model", "messages", "unknown"])
def test_deep_nesting_is_refused(field: str) -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    assert "nested" in refusal(b'{"%s": %s}' % (field.encode(), deep)).message


def test_the_last_of_two_equal_keys_counts() -> None:
    assert read(b'{"model": "a", "model": "b"}').model == "b"


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,modelstreamnu1eE.-\\ ', max_size=60).map(str.encode))
@settings(max_examples=400)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    assert read_or_refused(CHAT, body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    ApiRequest.__struct_fields__ + tuple(f.name for f in msgspec.structs.fields(type(read({}).body)))
)


@given(st.dictionaries(names, json_values, max_size=6), st.sampled_from([CHAT, "/v1/completions", "/v1/messages"]))
@settings(max_examples=300)
def test_any_object_is_read_or_refused(body: dict[str, Any], path: str) -> None:
    assert read_or_refused(path, json.dumps(body).encode())
