"""Reads the conversation of a request, whichever API it came by."""

from __future__ import annotations

from router.engine.api import ApiKind, ApiRequest
from router.engine.prompts.anthropic import TemplateHabits, read_messages
from router.engine.prompts.chat_input import ChatInput, PromptUnknownError, read_chat
from router.engine.prompts.responses import read_responses


def read_conversation(api: ApiRequest, habits: TemplateHabits | None) -> ChatInput:
    """``habits`` is None when the template is not known here.

    Raises PromptUnknownError when only the replica can say what the conversation is.
    """
    if api.kind is ApiKind.CHAT:
        return read_chat(api.body)
    if api.kind is ApiKind.MESSAGES:
        return read_messages(api.body, habits)
    if api.kind is ApiKind.RESPONSES:
        return read_responses(api.body)
    raise PromptUnknownError(api.kind)
