"""Reads /v1/messages bodies: Anthropic's form of a conversation, converted to chat messages as vLLM does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from router.engine.api import Body
from router.engine.prompts.chat_input import ChatInput, PromptUnknownError, decode, template_variables

_TOOL_CHANGES = ("tool_addition", "tool_removal")
_BILLING_HEADER = "x-anthropic-billing-header"


@dataclass(slots=True, frozen=True)
class TemplateHabits:
    """What vLLM finds out about a chat template before it converts a conversation for it."""

    system_leads: bool
    """System messages further down are refused, so they are merged into the first one."""
    effort_without_thinking: str
    """The reasoning effort that stands for thinking switched off."""


def read_messages(body: Body, habits: TemplateHabits | None) -> ChatInput:
    """The conversation of a /v1/messages body.

    Raises PromptUnknownError for what vLLM would refuse, and without ``habits`` for what depends on them.
    """
    listed = decode(body.messages, "messages")
    if not isinstance(listed, list) or not all(isinstance(message, dict) for message in listed):
        raise PromptUnknownError("messages")
    messages: list[dict[str, Any]] = []
    system = decode(body.system, "system") or ""
    leading = [system if isinstance(system, str) else _system_text(system)]
    late = [message for message in listed if message.get("role") == "system"]
    if late and _known(habits).system_leads:
        leading += [_system_text(message.get("content")) for message in late]
        listed = [message for message in listed if message.get("role") != "system"]
    if any(leading):
        messages.append({"role": "system", "content": "".join(leading)})
    for message in listed:
        messages.extend(_messages(message))
    effort = _effort(body, habits)
    return ChatInput(messages, _tools(body), {**template_variables(body, effort), "add_generation_prompt": True})


def _known(habits: TemplateHabits | None) -> TemplateHabits:
    if habits is None:
        raise PromptUnknownError("template habits")
    return habits


def _messages(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The chat messages that one message becomes: tool results come first, as messages of their own."""
    role, content = message.get("role"), message.get("content")
    if role == "system":
        if text := _system_text(content):
            yield {"role": "system", "content": text}
    elif role not in ("user", "assistant"):
        raise PromptUnknownError("messages")
    elif isinstance(content, str):
        yield {"role": role, "content": content}
    elif isinstance(content, list):
        converted, results = _blocks(role, content)
        yield from results
        if role == "assistant" or "content" in converted:
            yield converted
    else:
        raise PromptUnknownError("content")


def _blocks(role: str, blocks: list[Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The message that content blocks make, and the tool results among them."""
    parts: list[dict[str, Any]] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            if block.get("text"):
                parts.append({"type": "text", "text": block["text"]})
        elif kind == "image":
            parts.append({"type": "image_url", "image_url": {"url": _image_url(block.get("source"))}})
        elif kind == "thinking":
            thoughts.append(_text(block.get("thinking")))
        elif kind == "tool_use":
            calls.append(_tool_call(block))
        elif kind == "tool_result" and role == "user":
            results.extend(_tool_results(block))
        elif kind == "tool_result":
            parts.append({"type": "text", "text": f"Tool result: {block.get('content') or ''}"})
        elif kind not in ("redacted_thinking", "tool_reference"):
            raise PromptUnknownError("content")
    message: dict[str, Any] = {"role": role}
    if thoughts:
        message["reasoning"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    if parts:
        alone = len(parts) == 1 and parts[0]["type"] == "text"
        message["content"] = parts[0]["text"] if alone else parts
    return message, results


def _tool_call(block: dict[str, Any]) -> dict[str, Any]:
    if not block.get("id"):
        raise PromptUnknownError("tool calls")
    function = {"arguments": block.get("input") or {}, "name": block.get("name") or ""}
    return {"id": block["id"], "function": function, "type": "function"}


def _tool_results(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    content = block.get("content")
    texts: list[str] = [content] if isinstance(content, str) else []
    images: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    for item in content if isinstance(content, list) else ():
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "text":
            texts.append(_text(item.get("text", "")))
        elif kind == "image":
            images.append({"type": "image_url", "image_url": {"url": _image_url(item.get("source"))}})
        elif kind == "tool_reference" and (name := item.get("tool_name") or item.get("name")):
            references.append({"type": "tool_reference", "name": name})
    result = {"role": "tool", "tool_call_id": block.get("tool_use_id") or ""}
    yield {**result, "content": "\n".join(texts)}
    if images:
        yield {"role": "user", "content": images}
    if references:
        yield {**result, "content": references}


def _tools(body: Body) -> list[dict[str, Any]] | None:
    listed = decode(body.tools, "tools")
    if listed is None:
        return None
    if not isinstance(listed, list):
        raise PromptUnknownError("tools")
    return [_tool(tool) for tool in listed]


def _tool(tool: Any) -> dict[str, Any]:
    schema = tool.get("input_schema") if isinstance(tool, dict) else None
    if not isinstance(schema, dict):
        raise PromptUnknownError("tools")
    schema.setdefault("type", "object")
    function = {name: tool.get(name) for name in ("name", "description", "strict", "defer_loading")}
    return {"type": "function", "function": {**function, "parameters": schema}}


def _effort(body: Body, habits: TemplateHabits | None) -> Any:
    thinking = decode(body.thinking, "thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "disabled":
        return _known(habits).effort_without_thinking
    output = decode(body.output_config, "output_config")
    return output.get("effort") if isinstance(output, dict) else None


def _system_text(content: Any) -> str:
    """The text of a system prompt, without the blocks in which Claude Code numbers its requests."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise PromptUnknownError("system")
    if any(block.get("type") in _TOOL_CHANGES for block in blocks):
        raise PromptUnknownError("tool changes")
    texts = [_text(block.get("text") or "") for block in blocks if block.get("type") == "text"]
    return "".join(text for text in texts if not text.startswith(_BILLING_HEADER))


def _image_url(source: Any) -> str:
    if not isinstance(source, dict):
        raise PromptUnknownError("content")
    if source.get("type") == "url":
        return str(source.get("url", ""))
    return f"data:{source.get('media_type', 'image/jpeg')};base64,{source.get('data', '')}"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise PromptUnknownError("content")
    return value
