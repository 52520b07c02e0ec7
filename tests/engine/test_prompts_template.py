"""Chat templates behave as in Hugging Face transformers, and cannot run away."""

from __future__ import annotations

from typing import Any

import pytest

from router.engine.prompts import template as template_module
from router.engine.prompts.template import ChatTemplate, ChatTemplateError

USER = {"role": "user", "content": "hi"}


def rendered(source: str, messages: list[dict[str, Any]] | None = None, **variables: Any) -> str:
    return ChatTemplate(source).render(messages or [USER], variables)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}\n", "hi\n"),
        ("{{ {'a': '<é>', 'b': [1.0, none]} | tojson }}", '{"a": "<é>", "b": [1.0, null]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true) }}", '{\n "a": 2,\n "b": 1\n}'),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "hi"),
        ("{{ missing | default('none') }}{{ bos_token }}", "none<s>"),
        ("{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "3"),
        ("{{ strftime_now('%%') }}", "%"),
    ],
)
def test_renders_like_transformers(source: str, text: str) -> None:
    assert rendered(source, bos_token="<s>") == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[5].content }}",
        "{{ 1 / 0 }}",
        "{{ messages | tojson + 1 }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10000000) %}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
    ids=["its own", "missing", "division", "type", "sandbox", "immutable", "range", "recursion"],
)
def test_whatever_goes_wrong_is_one_error(source: str) -> None:
    with pytest.raises(ChatTemplateError):
        rendered(source)


def test_the_templates_own_reason_is_kept() -> None:
    with pytest.raises(ChatTemplateError, match="roles must alternate"):
        rendered("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize("source", ["{% for %}", "{{ x | no_such_filter }}", "{% if %}"])
def test_what_is_no_template_is_refused_at_once(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="cannot be compiled"):
        ChatTemplate(source)


def test_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "MAX_RENDERED_CHARS", 1000)
    with pytest.raises(ChatTemplateError, match="without end"):
        rendered("{% for i in range(9999) %}{{ 'x' * 500 }}{{ i }}{% endfor %}")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "string"),
        ("{% for m in messages %}{% for part in m['content'] %}{{ part.text }}{% endfor %}{% endfor %}", "openai"),
        ("{% for m in messages %}{% for part in m.content | list %}x{% endfor %}{% endfor %}", "openai"),
        ("{% set rest = messages[1:] %}{% for m in rest %}{% for p in m.content %}x{% endfor %}{% endfor %}", "openai"),
        (
            "{% for m in messages %}{% set content = m.content %}{% for p in content %}x{% endfor %}{% endfor %}",
            "openai",
        ),
        ("{% for tool in tools %}{% for p in tool.content %}x{% endfor %}{% endfor %}", "string"),
        (
            "{% macro show(it) %}{% for p in it %}x{% endfor %}{% endmacro %}"
            "{% for m in messages %}{{ show(m.content) }}{% endfor %}",
            "openai",
        ),
        (
            "{% macro show(it) %}{% for p in it %}x{% endfor %}{% endmacro %}"
            "{% for m in messages %}{{ show(it=m['content']) }}{% endfor %}",
            "openai",
        ),
        (
            "{% macro show(content) %}{% for p in content %}x{% endfor %}{% endmacro %}"
            "{% for m in messages %}{{ show(m.tool_calls) }}{% endfor %}",
            "string",
        ),
    ],
)
def test_a_loop_over_content_means_parts(source: str, expected: str) -> None:
    assert ChatTemplate(source).content_format == expected


@pytest.mark.parametrize(
    ("source", "content", "text"),
    [
        ("{% for m in messages %}<{{ m.content }}>{% endfor %}", "so, ", "<so, "),
        ("{% for m in messages %}<{{ m.content | trim }}>{% endfor %}", "so, ", "<so,"),
        (
            "{% for m in messages %}<{% for part in m.content %}{{ part.text }}{% endfor %}>{% endfor %}",
            [{"type": "text", "text": "one"}, {"type": "image"}],
            "<one",
        ),
    ],
)
def test_continuing_the_final_message(source: str, content: Any, text: str) -> None:
    messages = [{"role": "assistant", "content": content}]
    assert ChatTemplate(source).render(messages, {}, continue_final_message=True) == text
    assert messages == [{"role": "assistant", "content": content}]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for m in messages %}{{ m.role }}{% endfor %}", {"role": "assistant", "content": "x"}),
        ("{% for m in messages[1:] %}{{ m.content }}{% endfor %}", {"role": "assistant", "content": "x"}),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", {"role": "assistant", "content": []}),
    ],
)
def test_nothing_to_continue(source: str, message: dict[str, Any]) -> None:
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source).render([message], {}, continue_final_message=True)
