"""Reads /v1/responses bodies: items of the Responses API, converted to chat messages as vLLM does."""

from __future__ import annotations

from typing import Any

from router.engine.api import Body, present
from router.engine.prompts.chat_input import ChatInput, PromptUnknownError, decode, template_variables

_UNFINISHED = ("in_progress", "incomplete")


def read_responses(body: Body) -> ChatInput:
    """The conversation of a /v1/responses body.

    Raises PromptUnknownError for conversations that the replica itself remembers, for tools that are not
    plain functions, and for what vLLM would refuse.
    """
    if present(body.previous_response_id) or present(body.previous_input_messages):
        raise PromptUnknownError("previous response")
    given = decode(body.input, "input")
    messages: list[dict[str, Any]] = []
    instructions = decode(body.instructions, "instructions")
    if instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
        unfinished = False
    else:
        unfinished = _add_items(messages, given)
    reasoning = decode(body.reasoning, "reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    variables = {**template_variables(body, effort), "add_generation_prompt": not unfinished}
    return ChatInput(messages, _tools(body), variables, unfinished, add_special_tokens=True)


def _add_items(messages: list[dict[str, Any]], items: Any) -> bool:
    """Appends the messages of ``items``; whether the last one is to be continued."""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise PromptUnknownError("input")
    first = len(messages)
    for item in items:
        message = _message(item)
        if len(messages) > first and _merged(messages[-1], message):
            continue
        messages.append(message)
    last = items[-1] if items else {}
    return last.get("type", "message") in ("message", "reasoning") and last.get("status") in _UNFINISHED


def _message(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "function_call" and not item.get("namespace"):
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "function": function, "type": "function"}
        return {"role": "assistant", "tool_calls": [call]}
    if kind == "reasoning" and not item.get("encrypted_content"):
        told = item.get("content") or item.get("summary") or [{"text": ""}]
        return {"role": "assistant", "reasoning": _first_text(told)}
    if kind == "function_call_output":
        return {"role": "tool", "content": item.get("output"), "tool_call_id": item.get("call_id")}
    if kind != "message" or not isinstance(item.get("role"), str):
        raise PromptUnknownError("input item")
    if item["role"] == "assistant":
        content = item.get("content")
        return {"role": "assistant", "content": content if isinstance(content, str) else _first_text(content)}
    return item


def _merged(previous: dict[str, Any], message: dict[str, Any]) -> bool:
    """Puts reasoning, text and tool calls of one assistant's turn into one message."""
    if previous["role"] != "assistant" or message["role"] != "assistant":
        return False
    if "tool_calls" in message:
        previous.setdefault("tool_calls", []).extend(message["tool_calls"])
        return True
    member = "reasoning" if "reasoning" in message else "content"
    if previous.get(member) is not None:
        return False
    previous[member] = message[member]
    return True


def _first_text(parts: Any) -> str:
    first = parts[0] if isinstance(parts, list) and parts else None
    text = first.get("text") if isinstance(first, dict) else None
    if not isinstance(text, str):
        raise PromptUnknownError("input item")
    return text


def _tools(body: Body) -> list[dict[str, Any]] | None:
    """Function tools; templates do not see the ones that vLLM runs itself."""
    listed = decode(body.tools, "tools") or []
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise PromptUnknownError("tools")
    if any(tool.get("type") in ("custom", "namespace") for tool in listed):
        raise PromptUnknownError("tools")
    functions = [tool for tool in listed if tool.get("type") == "function"]
    return [{"type": "function", "function": tool} for tool in functions] if listed else None
