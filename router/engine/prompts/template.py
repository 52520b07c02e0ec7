"""Renders chat templates in the environment that Hugging Face transformers gives them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from router.engine.prompts.content_format import ContentFormat, detect_content_format

MAX_RENDERED_CHARS = 32 << 20
MAX_RENDERED_CHUNKS = 1 << 20
_CONTINUE_MARK = "CONTINUE_FINAL_MESSAGE_TAG "

Message = dict[str, Any]


class ChatTemplateError(ValueError):
    """The template refused the conversation, or cannot be used at all."""


class ChatTemplate:
    """One compiled chat template.

    It runs in Jinja's immutable sandbox, and what it writes is bounded. Templates come from the operator;
    those that clients send are never rendered.
    """

    def __init__(self, source: str) -> None:
        """Raises ChatTemplateError when ``source`` is not a template."""
        environment = _environment()
        try:
            self._template = environment.from_string(source)
            tree = environment.parse(source)
            self.variables = frozenset(jinja2.meta.find_undeclared_variables(tree))
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the chat template cannot be compiled: {error}") from error
        self.content_format: ContentFormat = detect_content_format(tree)
        self.knows_developers = '"developer"' in source or "'developer'" in source
        self._source = source

    def render(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, Any],
        *,
        continue_final_message: bool = False,
    ) -> str:
        """The prompt text of a conversation.

        With ``continue_final_message`` the text ends where the last message's content ends. Raises
        ChatTemplateError, with the template's own reason, when it cannot be rendered.
        """
        if continue_final_message:
            messages = self._marked(messages)
        try:
            text = _bounded(self._template.generate({**variables, "messages": messages}))
        except ChatTemplateError:
            raise
        except Exception as error:  # client data can make a template raise whatever Python can
            raise ChatTemplateError(f"{type(error).__name__}: {error}") from error
        return _continued(text) if continue_final_message else text

    def refuses_late_system(self) -> bool:
        """Whether the template fails on a system message that is not the first one.

        vLLM tries it in an environment without any of Hugging Face's functions, and so does this.
        """
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        roles = ("system", "user", "system", "user")
        try:
            environment.from_string(self._source).render(
                messages=[{"role": role, "content": "t"} for role in roles], add_generation_prompt=False
            )
        except Exception:  # whatever it is that a template raises, it counts as a refusal
            return True
        return False

    def _marked(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with a mark at the end of the last one's text."""
        if "content" not in self._source or not messages:
            raise ChatTemplateError("there is no final message to continue")
        last = deepcopy(messages[-1])
        content = last.get("content")
        if isinstance(content, str):
            last["content"] = content + _CONTINUE_MARK
            return [*messages[:-1], last]
        for part in reversed(content or ()):
            if "text" in part:
                part["text"] += _CONTINUE_MARK
                return [*messages[:-1], last]
        raise ChatTemplateError("the final message has no text to continue")


def _continued(text: str) -> str:
    """``text`` up to the mark; where the template trimmed the content, the text is trimmed as well."""
    at = text.rfind(_CONTINUE_MARK.strip())
    if at < 0:
        raise ChatTemplateError("the template leaves out the final message")
    return text[:at] if text.startswith(_CONTINUE_MARK, at) else text[:at].rstrip()


def _bounded(chunks: Any) -> str:
    written: list[str] = []
    chars = 0
    for chunk in chunks:
        written.append(chunk)
        chars += len(chunk)
        if chars > MAX_RENDERED_CHARS or len(written) > MAX_RENDERED_CHUNKS:
            raise ChatTemplateError("the template writes without end")
    return "".join(written)


class _GenerationTag(Extension):
    """``{% generation %}``: marks what an assistant wrote, for training; renders as its body."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, this one must not."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise ChatTemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
