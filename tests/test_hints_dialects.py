"""Which program a request belongs to, by the headers that each family of clients sends."""

from pathlib import Path

import pytest

from router.core.types import ProgramHint
from router.hints.reader import HintReader
from router.hints.settings import IdentitySettings
from router.hints.tables import KEYS


def read(headers, **settings):
    named = {key.encode(): value.encode() for key, value in headers.items()}
    return HintReader(IdentitySettings(**settings)).read(named)


def program(headers, **settings):
    return read(headers, **settings).program


def test_nothing_said_is_no_hint():
    assert read({"authorization": "Bearer sk", "user-agent": "curl"}) == (None, "")


def test_all_of_wefts_own_headers():
    headers = {
        "x-program-id": "run-42",
        "x-program-step": "rank",
        "x-program-after": "search-1, search-2",
        "x-program-join": "votes",
        "x-program-width": "3",
        "x-program-parent": "run-41",
        "x-program-class": "research",
        "x-program-remaining": "2",
        "x-program-output-tokens": "300",
        "x-program-deadline-ms": "2500",
        "x-program-priority": "-1",
        "x-program-final": "true",
    }
    assert program(headers) == ProgramHint(
        id="run-42",
        step="rank",
        after=("search-1", "search-2"),
        join="votes",
        width=3,
        parent="run-41",
        kind="research",
        remaining_steps=2,
        output_tokens=300,
        deadline_in_s=2.5,
        priority=-1,
        final=True,
    )


CLAUDE_CODE = {"x-claude-code-session-id": "s"}
CODEX = {"session-id": "s", "thread-id": "s"}


@pytest.mark.parametrize(
    ("headers", "id_", "parent", "kind", "session"),
    [
        (CLAUDE_CODE, "s", "", "claude-code", "s"),
        (CLAUDE_CODE | {"x-claude-code-agent-id": "a"}, "s/a", "s", "claude-code", "s"),
        (
            CLAUDE_CODE | {"x-claude-code-agent-id": "a", "x-claude-code-parent-agent-id": "b"},
            "s/a",
            "s/b",
            "claude-code",
            "s",
        ),
        (CLAUDE_CODE | {"x-claude-code-agent-id": "a", "x-claude-code-agent-type": "Plan"}, "s/a", "s", "Plan", "s"),
        (CODEX, "s", "", "codex", "s"),
        (CODEX | {"thread-id": "t", "x-codex-parent-thread-id": "s"}, "t", "s", "codex", "s"),
        ({"session_id": "s"}, "s", "", "codex", "s"),
        ({"session-id": "s", "x-openai-subagent": "review"}, "s", "", "review", "s"),
        ({"x-session-id": "s", "x-session-affinity": "s"}, "s", "", "", "s"),
        ({"x-session-id": "s", "x-parent-session-id": "p"}, "s", "p", "", "s"),
        ({"x-opencode-session": "s"}, "s", "", "", "s"),
        ({"x-session-affinity": "s", "x-correlation-id": "c"}, "s", "", "", "s"),
        ({"x-dynamo-session-id": "s", "x-dynamo-parent-session-id": "p"}, "s", "p", "", "s"),
        ({"x-dynamo-trajectory-id": "t", "x-dynamo-parent-trajectory-id": "p"}, "t", "p", "", "t"),
        ({"x-dynamo-trajectory-id": "t", "x-dynamo-session-id": "s"}, "t", "", "", "s"),
        ({"x-smg-routing-key": "k"}, "k", "", "", "k"),
        ({"x-aibrix-session-key": "k"}, "k", "", "", "k"),
        ({"x-llm-d-inference-fairness-id": "f"}, "f", "", "", "f"),
        ({"x-gateway-inference-fairness-id": "f"}, "f", "", "", "f"),
    ],
)
def test_what_clients_send(headers, id_, parent, kind, session):
    hints = read(headers)
    assert (hints.program.id, hints.program.parent, hints.program.kind) == (id_, parent, kind)
    assert hints.session_id == session


@pytest.mark.parametrize("header", ["x-program-final", "x-dynamo-session-final", "x-dynamo-trajectory-final"])
def test_the_last_call_of_a_program(header):
    assert program({"x-program-id": "p", header: "true"}).final
    assert not program({"x-program-id": "p", header: "false"}).final


@pytest.mark.parametrize(("word", "priority"), [("bulk", -1), ("default", 0), ("interactive", 1), ("System", 2)])
def test_smgs_priority_classes(word, priority):
    assert program({"x-smg-routing-key": "k", "x-smg-priority": word}).priority == priority


def test_the_order_in_which_dialects_are_believed():
    order = [
        {"x-program-id": "weft"},
        {"x-dynamo-session-id": "dynamo"},
        {"x-claude-code-session-id": "claude"},
        {"thread-id": "codex"},
        {"x-session-id": "opencode"},
        {"x-smg-routing-key": "smg"},
        {"x-llm-d-inference-fairness-id": "llm-d"},
    ]
    for first, dialect in enumerate(order):
        everything_after = {key: value for each in reversed(order[first:]) for key, value in each.items()}
        assert program(everything_after).id == next(iter(dialect.values()))


def test_a_malformed_name_leaves_the_word_to_the_next():
    assert program({"x-program-id": "i" * 300, "x-session-id": "s"}).id == "s"


def test_name_and_parent_come_from_one_dialect():
    assert program({"x-dynamo-session-id": "a", "x-parent-session-id": "b"}).parent == ""


def test_the_rest_may_come_from_any():
    hint = program({"x-claude-code-session-id": "s", "x-program-class": "fix", "x-program-parent": "run-7"})
    assert (hint.id, hint.kind, hint.parent) == ("s", "fix", "run-7")


def test_no_program_is_its_own_parent():
    assert program({"x-session-id": "s", "x-parent-session-id": "s"}).parent == ""
    assert program({"x-program-id": "s", "x-program-parent": "s"}).parent == ""


def test_the_session_is_told_apart_from_the_program():
    assert read({"x-program-id": "p", "x-session-id": "s"}) == (ProgramHint("p"), "s")


def test_an_agent_whose_name_does_not_fit_counts_for_its_session():
    reader = HintReader()
    headers = {b"x-claude-code-session-id": b"s" * 200, b"x-claude-code-agent-id": b"a" * 100}
    assert reader.read(headers).program == ProgramHint("s" * 200, kind="claude-code")
    assert reader.warnings == {"x-claude-code-agent-id: too long together with its session": 1}


def test_what_many_share_names_no_program():
    assert read({"x-correlation-id": "c"}) == (ProgramHint(""), "c")


def test_a_hint_without_a_name_still_counts_for_the_call():
    assert read({"x-program-output-tokens": "20"}) == (ProgramHint("", output_tokens=20), "")


def test_headers_of_ones_own():
    assert program({"x-run": "r", "x-session-id": "s"}).id == "s"
    assert program({"x-run": "r", "x-session-id": "s"}, program_headers=("x-run",)).id == "r"
    assert program({"x-correlation-id": "c"}, program_headers=("x-correlation-id",)).id == "c"
    both = {"x-dynamo-session-id": "d", "x-session-id": "s"}
    assert program(both, program_headers=("x-session-id",)).id == "s"


def test_the_documentation_names_every_place():
    text = (Path(__file__).parent.parent / "docs" / "programs.md").read_text()
    assert [key for key in KEYS if key.removeprefix("body.").rpartition(".")[2] not in text] == []


def test_the_tenants_header_names_no_program():
    header = "x-llm-d-inference-fairness-id"
    assert program({header: "acme"}, tenant_header=header) is None
