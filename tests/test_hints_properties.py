"""For any request whatever: hints are bounded, never raise, and what is told well arrives as it was told."""

import json
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from router.core.types import ProgramHint
from router.engine.api import read_body
from router.hints.reader import HintReader
from router.hints.tables import KEYS

HEADERS = [key.encode() for key in KEYS if not key.startswith("body.")]
PATHS = [key.removeprefix("body.").split(".") for key in KEYS if key.startswith("body.")]
REASONS = {
    "too long",
    "too long together with its session",
    "not printable ASCII",
    "not a text",
    "too many",
    "out of range",
    "not a whole number",
    "not a number",
    "not true or false",
    "not a known word",
}

NAME = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1, max_size=256)
ANYTHING = st.one_of(
    st.binary(max_size=300),
    st.integers().map(lambda number: b"%d" % number),
    NAME.map(str.encode),
    st.just(b"x" * 10_000),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


def check_bounds(reader, hints):
    hint = hints.program or ProgramHint("")
    for text in (hints.session_id, hint.id, hint.step, hint.join, hint.parent, hint.kind, *hint.after):
        assert len(text) <= 256
        assert text.isascii()
        assert text.isprintable()
    assert len(hint.after) <= 64
    assert 0 <= hint.width <= 10_000
    assert hint.output_tokens is None or 0 < hint.output_tokens <= 10_000_000
    assert hint.remaining_steps is None or 0 <= hint.remaining_steps <= 100_000
    assert hint.deadline_in_s is None or 0 <= hint.deadline_in_s <= 1_000_000
    assert hint.parent != hint.id or not hint.id
    for warning in reader.warnings:
        key, _, reason = warning.partition(": ")
        assert reason in REASONS
        assert key in KEYS or key in ("body.nvext", "body.metadata", "body.vllm_xargs")


@given(st.dictionaries(st.sampled_from(HEADERS), ANYTHING, max_size=12))
def test_any_bytes_in_any_header(headers):
    reader = HintReader()
    check_bounds(reader, reader.read(headers))


@given(st.lists(st.tuples(st.sampled_from(PATHS), JSON), max_size=6))
def test_any_json_in_any_field(fields):
    body = {}
    for path, value in fields:
        inner = body
        for name in path[:-1]:
            inner = inner.setdefault(name, {}) if isinstance(inner, dict) else {}
        if isinstance(inner, dict):
            inner[path[-1]] = value
    reader = HintReader()
    check_bounds(reader, reader.read({}, read_body("/v1/chat/completions", json.dumps(body).encode()).body))


@given(
    st.builds(
        ProgramHint,
        id=NAME,
        step=NAME,
        after=st.lists(NAME, max_size=8, unique=True).map(tuple),
        join=NAME,
        width=st.integers(0, 10_000),
        kind=NAME,
        remaining_steps=st.integers(0, 100_000),
        output_tokens=st.integers(1, 10_000_000),
        deadline_in_s=st.integers(0, 1_000_000).map(float),
        priority=st.integers(-1_000_000, 1_000_000),
        final=st.booleans(),
    )
)
def test_what_is_told_well_arrives(hint):
    told = asdict(hint)
    headers = {
        "x-program-id": hint.id,
        "x-program-step": hint.step,
        "x-program-after": ",".join(hint.after),
        "x-program-join": hint.join,
        "x-program-width": hint.width,
        "x-program-class": hint.kind,
        "x-program-remaining": hint.remaining_steps,
        "x-program-output-tokens": hint.output_tokens,
        "x-program-deadline-ms": int(hint.deadline_in_s * 1000),
        "x-program-priority": hint.priority,
        "x-program-final": str(hint.final).lower(),
    }
    reader = HintReader()
    read = reader.read({key.encode(): str(value).encode() for key, value in headers.items()})
    assert asdict(read.program) == told
    assert not reader.warnings
