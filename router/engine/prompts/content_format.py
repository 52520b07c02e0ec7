"""Finds out whether a chat template takes a message's content as a string or as a list of parts.

vLLM decides by looking for a loop over the content of a message, and so does this: ``openai`` when the template
iterates over content, ``string`` otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeGuard

from jinja2 import nodes

ContentFormat = Literal["string", "openai"]


def detect_content_format(template: nodes.Template) -> ContentFormat:
    """The format that a parsed template expects."""
    return "openai" if _iterates_over_content(template) else "string"


def _iterates_over_content(template: nodes.Template) -> bool:
    messages = set(_message_names(template))
    in_macros: set[int] = set()
    for macro in template.find_all(nodes.Macro):
        loops = list(macro.find_all(nodes.For))
        in_macros.update(map(id, loops))
        parameters = _content_parameters(template, macro, messages)
        if any(isinstance(loop.iter, nodes.Name) and loop.iter.name in parameters for loop in loops):
            return True
    return any(
        any(_refers_to(loop.iter, message, "content") for message in messages)
        or (isinstance(loop.iter, nodes.Name) and loop.iter.name == "content" and id(loop) not in in_macros)
        for loop in template.find_all(nodes.For)
    )


def _message_names(template: nodes.Template) -> Iterator[str]:
    """Names that loops give to one message."""
    lists = _aliases(template, "messages")
    for loop in template.find_all(nodes.For):
        if isinstance(loop.target, nodes.Name) and any(_refers_to(loop.iter, name) for name in lists):
            yield loop.target.name


def _aliases(template: nodes.Template, name: str) -> list[str]:
    """``name`` and the variables that are set to it, to a slice of it or to a filtered form of it."""
    found = [name]
    for alias in found:
        found.extend(
            assignment.target.name
            for assignment in template.find_all(nodes.Assign)
            if isinstance(assignment.target, nodes.Name)
            and assignment.target.name not in found
            and _refers_to(assignment.node, alias)
        )
    return found


def _content_parameters(template: nodes.Template, macro: nodes.Macro, messages: set[str]) -> set[str]:
    """Parameters of ``macro`` that some call gives a message's content."""
    names = [parameter.name for parameter in macro.args]
    found = set()
    for call in template.find_all(nodes.Call):
        if not isinstance(call.node, nodes.Name) or call.node.name != macro.name:
            continue
        given = [*zip(names, call.args, strict=False), *((kw.key, kw.value) for kw in call.kwargs)]
        for name, value in given:
            if name in names and any(_refers_to(value, message, "content") for message in messages):
                found.add(name)
    return found


def _refers_to(node: nodes.Node | None, name: str, key: str | None = None) -> bool:
    """Whether ``node`` is variable ``name`` (its member ``key``), sliced, filtered or tested or not."""
    while isinstance(node, nodes.Filter | nodes.Test) or _is_slice(node):
        node = node.node
    if key is not None:
        if isinstance(node, nodes.Getitem):
            if not isinstance(node.arg, nodes.Const) or node.arg.value != key:
                return False
        elif not isinstance(node, nodes.Getattr) or node.attr != key:
            return False
        node = node.node
    return isinstance(node, nodes.Name) and node.ctx == "load" and node.name == name


def _is_slice(node: nodes.Node | None) -> TypeGuard[nodes.Getitem]:
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
