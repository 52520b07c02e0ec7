"""Turns the messages and tools of a chat request into what vLLM hands to the chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router.engine.prompts.chat_input import PromptUnknownError
from router.engine.prompts.content_format import ContentFormat
from router.engine.prompts.media import MARK, MediaSlot, content_key, modality
from router.engine.prompts.tools import tool_calls_for_template

_TEXT_PARTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_PART_MEMBERS = frozenset(
    {"audio_embeds", "audio_url", "closed", "data", "file", "image_embeds", "image_pil", "image_url"}
    | {"input_audio", "name", "prompt_cache_breakpoint", "refusal", "text", "thinking", "type", "uuid"}
    | {"video_embeds", "video_url"}
)
"""Members with a meaning of their own; any others of a text part are passed on to the template."""
_BILLING_HEADER = "x-anthropic-billing-header"


def for_template(
    messages: Sequence[Any], content_format: ContentFormat
) -> tuple[list[dict[str, Any]], list[MediaSlot]]:
    """A request's messages as templates take them, and where the media among them are.

    Raises PromptUnknownError for what vLLM would refuse.
    """
    media: list[MediaSlot] = []
    return [_message(message, content_format, media) for message in messages], media


def without_developers(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For templates that do not know the role: developers become the one system message at the front."""
    renamed = [
        {**{k: v for k, v in m.items() if k != "tools"}, "role": "system"} if m["role"] == "developer" else m
        for m in messages
    ]
    systems = [m for m in renamed if m["role"] == "system"]
    if systems == renamed[:1]:
        return renamed
    texts = [_plain(m.get("content", "")) for m in systems]
    merged = {"role": "system", "content": "\n\n".join(text for text in texts if text)}
    return [merged, *(m for m in renamed if m["role"] != "system")]


def _message(message: Any, content_format: ContentFormat, media: list[MediaSlot]) -> dict[str, Any]:
    if not isinstance(message, dict) or not isinstance(role := message.get("role"), str):
        raise PromptUnknownError("messages")
    content = message.get("content")
    if isinstance(content, str):
        parts: list[Any] = [{"type": "text", "text": content}]
    elif content is None:
        parts = []
    elif isinstance(content, list):
        parts = content
    else:
        raise PromptUnknownError("content")
    if role == "system":
        parts = _without_billing(parts)
    converted: dict[str, Any] = {"role": role}
    converted["content"] = _wrapped(parts, media) if content_format == "openai" else _text(parts, converted, media)
    if role == "assistant":
        _add_assistant_members(converted, message)
    elif role == "tool":
        if "tool_call_id" in message:
            converted["tool_call_id"] = message["tool_call_id"]
        converted["content"] = _tool_content(converted["content"])
    for name in ("name", "task"):
        if isinstance(message.get(name), str):
            converted[name] = message[name]
    if role == "developer":
        converted["tools"] = message.get("tools")
    return converted


def _wrapped(parts: Sequence[Any], media: list[MediaSlot]) -> list[dict[str, Any]]:
    """Content for templates that take a list of parts."""
    converted: list[dict[str, Any]] = []
    for part in parts:
        if (kind := modality(part)) is not None:
            mark = {"type": "text", "text": MARK}
            media.append(MediaSlot(converted, len(converted), mark, content_key(part)))
            converted.append({"type": kind, **_extra(part)})
        elif (text := _text_part(part)) is not None:
            converted.append(text)
    return converted


def _text(parts: Sequence[Any], message: dict[str, Any], media: list[MediaSlot]) -> str:
    """Content for templates that take a string. vLLM puts what stands for media in front of it."""
    keys = [content_key(part) for part in parts if modality(part) is not None]
    converted = [_text_part(part) for part in parts if modality(part) is None]
    texts = [part["name" if part["type"] == "tool_reference" else "text"] for part in converted if part]
    content = "\n".join(text for text in texts if text)
    media.extend(MediaSlot(message, "content", f"{MARK}\n{content}", key) for key in keys)
    return content


def _text_part(part: Any) -> dict[str, Any] | None:
    """One part of a content in its wrapped form; None for one that vLLM skips."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "tool_reference" and isinstance(part.get("name"), str):
        return {"type": "tool_reference", "name": part["name"]}
    member = _TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if member is None:
        raise PromptUnknownError("content part")
    text = part.get(member)
    if text is None and kind in ("text", "refusal"):
        return None
    if not isinstance(text, str):
        raise PromptUnknownError("content part")
    return {"type": "text", "text": text, **_extra(part)}


def _extra(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in _PART_MEMBERS}


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if "text" in part)
    return str(content)


def _tool_content(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Tool results are plain strings to templates, whatever the format of other messages."""
    if isinstance(content, str) or any(part["type"] != "text" for part in content):
        return content
    return "\n".join(part["text"] for part in content)


def _without_billing(parts: Sequence[Any]) -> list[Any]:
    """vLLM drops the line that Claude Code puts first and that differs in every request."""
    kept: list[Any] = []
    for part in parts:
        text = part if isinstance(part, str) else part["text"] if _is_text(part) else ""
        if not text.startswith(_BILLING_HEADER):
            kept.append(part)
        elif rest := text.partition("\n")[2]:
            kept.append(rest if isinstance(part, str) else {**part, "text": rest})
    return kept


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _add_assistant_members(converted: dict[str, Any], message: Mapping[str, Any]) -> None:
    if calls := message.get("tool_calls"):
        converted["tool_calls"] = tool_calls_for_template(calls)
    reasoning = message.get("reasoning")
    if reasoning is not None:
        converted["reasoning"] = converted["reasoning_content"] = reasoning
