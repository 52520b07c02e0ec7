"""Tools and tool calls as vLLM hands them to chat templates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from router.engine.prompts.chat_input import PromptUnknownError


def tools_for_template(listed: Sequence[Any]) -> list[dict[str, Any]]:
    """Tools with the members that vLLM keeps, in its order. Raises PromptUnknownError for what it refuses."""
    return [_tool(tool) for tool in listed]


def tool_calls_for_template(calls: Any) -> list[dict[str, Any]]:
    """An assistant's calls with their arguments parsed. Raises PromptUnknownError for what vLLM refuses."""
    if not isinstance(calls, list):
        raise PromptUnknownError("tool calls")
    return [_tool_call(call) for call in calls]


def _tool_call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type", "function") != "function":
        raise PromptUnknownError("tool calls")
    return {**call, "function": {**function, "arguments": _arguments(function.get("arguments"))}}


def _arguments(arguments: Any) -> dict[str, Any]:
    """Arguments as the object that templates expect; what is no JSON object counts as empty."""
    if isinstance(arguments, str) and arguments:
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return {}
    return arguments if isinstance(arguments, dict) else {}


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise PromptUnknownError("tools")
    declared = {name: function.get(name) for name in ("name", "description", "parameters")}
    if not isinstance(declared["name"], str):
        raise PromptUnknownError("tools")
    if function.get("strict") is not None:
        declared["strict"] = function["strict"]
    converted = {"type": "function", "function": declared}
    deferred = tool.get("defer_loading")
    if deferred is not None:
        converted["defer_loading"] = deferred
    if function.get("defer_loading") is not None:
        deferred = function["defer_loading"]
    if deferred is not None:
        declared["defer_loading"] = deferred
    return converted
