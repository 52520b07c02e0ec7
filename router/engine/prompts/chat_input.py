"""What a request says of its prompt when it is a conversation, whichever API it came by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from router.engine.api import Body, boolean, present

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class PromptUnknownError(Exception):
    """Only the replica can say what the prompt is, or that there is none. ``reason`` is for counting."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class ChatInput:
    """A conversation as /v1/chat/completions takes it."""

    messages: list[Any]
    tools: list[Any] | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    """What the request gives the chat template beside messages and tools."""
    continue_final_message: bool = False
    add_special_tokens: bool = False


def read_chat(body: Body) -> ChatInput:
    """The conversation of a /v1/chat/completions body.

    Raises PromptUnknownError for what vLLM would refuse, and for templates that come with the request: vLLM renders
    them only when told to trust its clients.
    """
    messages = decode(body.messages, "messages")
    if not isinstance(messages, list) or not messages:
        raise PromptUnknownError("messages")
    for message in messages:
        _normalise(message)
    if present(body.chat_template):
        raise PromptUnknownError("request template")
    continue_final_message = flag(body.continue_final_message, False)
    add_generation_prompt = flag(body.add_generation_prompt, True)
    if continue_final_message and add_generation_prompt:
        raise PromptUnknownError("continue_final_message")
    tools = decode(body.tools, "tools")
    if tools is not None and not (isinstance(tools, list) and tools):
        raise PromptUnknownError("tools")
    variables = template_variables(body, body.reasoning_effort)
    if present(body.documents):
        variables["documents"] = decode(body.documents, "documents")
    variables["add_generation_prompt"] = add_generation_prompt
    return ChatInput(messages, tools, variables, continue_final_message, flag(body.add_special_tokens, False))


def decode(raw: msgspec.Raw, reason: str) -> Any:
    """The value of a raw field, None when it is absent. Raises PromptUnknownError when it cannot be read."""
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise PromptUnknownError(reason) from error


def flag(value: Any, default: bool) -> bool:
    """A boolean field. Raises PromptUnknownError when vLLM would not take ``value`` for one."""
    read = boolean(value, default)
    if read is None:
        raise PromptUnknownError("boolean")
    return read


def template_variables(body: Body, reasoning_effort: Any) -> dict[str, Any]:
    """What any API gives the chat template: the request's own variables and how hard to think."""
    variables = decode(body.chat_template_kwargs, "chat_template_kwargs") or {}
    if not isinstance(variables, dict) or variables.get("chat_template") is not None or "tokenize" in variables:
        raise PromptUnknownError("chat_template_kwargs")
    if reasoning_effort is not None:
        if reasoning_effort not in _EFFORTS:
            raise PromptUnknownError("reasoning_effort")
        variables.setdefault("enable_thinking", reasoning_effort != "none")
        variables["reasoning_effort"] = reasoning_effort
    return variables


def _normalise(message: Any) -> None:
    """Brings a message into the form in which vLLM's validation leaves it."""
    if not isinstance(message, dict):
        raise PromptUnknownError("messages")
    thoughts = message.pop("reasoning_content", None)
    if thoughts is not None and message.get("reasoning") is None:
        message["reasoning"] = thoughts
    if isinstance(calls := message.get("tool_calls"), list):
        message["tool_calls"] = [_tool_call(call) for call in calls]


def _tool_call(call: Any) -> Any:
    """A tool call with its members in the order in which vLLM's validation leaves them."""
    if not isinstance(call, dict) or not isinstance(function := call.get("function"), dict):
        return call
    return _first(call, "id", "function", "type") | {"function": _first(function, "arguments", "name")}


def _first(members: dict[str, Any], *names: str) -> dict[str, Any]:
    """``members`` with those of ``names`` that are there in front, in that order."""
    return {name: members[name] for name in names if name in members} | members
