"""What bodies say of their programs."""

import json

import pytest

from router.core.types import ProgramHint
from router.engine.api import read_body
from router.hints.reader import HintReader


def read(body, reader=None, headers=None):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (reader or HintReader()).read(headers or {}, read_body("/v1/chat/completions", text).body)


def agentic(**fields):
    return {"vllm_xargs": {"agentic_context": fields}}


def context(**fields):
    return {"nvext": {"agent_context": fields}}


@pytest.mark.parametrize(
    ("body", "id_", "parent", "session"),
    [
        ({"program_id": "p"}, "p", "", "p"),
        ({"program_id": "p", "parent_program_id": "q"}, "p", "q", "p"),
        ({"job_id": "j"}, "j", "", "j"),
        ({"job_id": 17}, "17", "", "17"),
        ({"session_id": "s"}, "s", "", "s"),
        ({"vllm_xargs": {"session_id": "s"}}, "s", "", "s"),
        ({"conversation": "c"}, "c", "", "c"),
        ({"conversation": {"id": "c"}}, "c", "", "c"),
        ({"metadata": {"session_id": "s"}}, "s", "", "s"),
        ({"metadata": {"program_id": "p", "parent_program_id": "q", "session_id": "s"}}, "p", "q", "s"),
        (agentic(program_id="p", parent_program_id="q"), "p", "q", "p"),
        (agentic(task_id="t"), "t", "", "t"),
        (agentic(task_id="t", agent_id="a"), "t/a", "t", "t"),
        (agentic(session_id="t", agent_id="a", parent_agent_id="b"), "t/a", "t/b", "t"),
        ({"vllm_xargs": {"agentic_context": '{"program_id": "p"}'}}, "p", "", "p"),
        (context(workflow_id="w", program_id="w:a", parent_program_id="w:b"), "w:a", "w:b", "w"),
        (context(session_id="s", trajectory_id="s:a", parent_trajectory_id="s:b"), "s:a", "s:b", "s"),
        (context(session_id="s", parent_session_id="r"), "s", "r", "s"),
    ],
)
def test_fields_that_name_a_program(body, id_, parent, session):
    hints = read(body)
    assert (hints.program.id, hints.program.parent, hints.session_id) == (id_, parent, session)


@pytest.mark.parametrize(
    "user_id", ["user_12ab_account__session_0a1b-2c", '{"device_id": "d", "account_uuid": "", "session_id": "0a1b-2c"}']
)
def test_claude_code_behind_a_proxy_that_drops_its_headers(user_id):
    hints = read({"metadata": {"user_id": user_id}})
    assert (hints.program.id, hints.program.kind) == ("0a1b-2c", "claude-code")


def test_hints_without_a_name():
    assert read({"nvext": {"agent_hints": {"priority": 5, "osl": 1024}}}).program == ProgramHint(
        "", priority=5, output_tokens=1024
    )


@pytest.mark.parametrize("kind", ["workflow_type_id", "session_type_id"])
def test_the_class_of_a_program(kind):
    assert read(context(session_id="s", **{kind: "deep_research"})).program.kind == "deep_research"


def test_what_else_is_said_of_a_call():
    said = read(agentic(program_id="p", step_id="plan", expected_output_length=80, deadline_seconds=30.5)).program
    assert (said.step, said.output_tokens, said.deadline_in_s) == ("plan", 80, 30.5)


def test_the_last_step_of_a_job():
    assert read({"job_id": "j", "is_last_step": True}).program.final
    assert not read({"job_id": "j", "is_last_step": False}).program.final


@pytest.mark.parametrize(
    ("body", "session"), [({"prompt_cache_key": "k"}, "k"), ({"metadata": {"user_id": "u"}}, "u"), ({"user": "u"}, "")]
)
def test_keys_and_users_that_many_share_name_no_program(body, session):
    hints = read(body)
    assert hints.session_id == session
    assert hints.program in (None, ProgramHint(""))


def test_headers_come_first():
    headers = {b"x-session-id": b"from the header"}
    assert read({"program_id": "from the body"}, headers=headers).program.id == "from the header"


def test_the_headers_of_gateways_come_last():
    headers = {b"x-llm-d-inference-fairness-id": b"tenant or program"}
    assert read({"program_id": "p"}, headers=headers).program.id == "p"


@pytest.mark.parametrize(
    "body",
    [
        {"program_id": {}, "conversation": [], "metadata": 5},
        {"metadata": [], "vllm_xargs": "x", "nvext": None, "conversation": 1.5},
        {"nvext": {"agent_hints": [], "agent_context": "{"}},
        {"metadata": {"user_id": {"session_id": {}}}},
        {"session_id": "\ud800"},
        b'{"session_id": NaN}',
        b'{"nvext": ' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)
def test_fields_of_another_shape_say_nothing(body):
    assert read(body) == (None, "")


def test_malformed_fields_are_counted_by_their_place():
    reader = HintReader()
    read({"program_id": "p" * 300, "nvext": {"agent_hints": {"osl": "many"}}}, reader)
    assert reader.warnings == {"body.program_id: too long": 1, "body.nvext.agent_hints.osl: not a number": 1}


def test_large_objects_are_not_parsed_for_hints():
    reader = HintReader()
    assert read({"nvext": {"agent_context": {"session_id": "s"}, "more": "x" * 70_000}}, reader) == (None, "")
    assert reader.warnings == {"body.nvext: too long": 1}
