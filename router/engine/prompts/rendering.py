"""Chooses a model's chat template and renders a conversation with it as vLLM would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.engine.prompts.anthropic import TemplateHabits
from router.engine.prompts.chat_input import ChatInput, PromptUnknownError
from router.engine.prompts.conversation import for_template, without_developers
from router.engine.prompts.media import locate
from router.engine.prompts.prompt_text import PromptText
from router.engine.prompts.template import ChatTemplate, ChatTemplateError
from router.engine.prompts.tools import tools_for_template

_NOT_FOR_TEMPLATES = frozenset(
    {"padding", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"}
)
"""Variables that Hugging Face's ``apply_chat_template`` takes for itself."""
_UNSET = (None, "auto")
"""Values with which a request says that it has none."""


class Renderer:
    """The templates of one model, and what every rendering is given."""

    def __init__(
        self,
        templates: Mapping[str, str],
        special_tokens: Mapping[str, str],
        defaults: Mapping[str, Any],
    ) -> None:
        """``templates`` by name, ``defaults`` as vLLM's ``--default-chat-template-kwargs``.

        Raises ChatTemplateError when a template cannot be compiled.
        """
        self._templates = {name: ChatTemplate(source) for name, source in templates.items()}
        self._special_tokens = dict(special_tokens)
        self._defaults = dict(defaults)
        self.habits = self._find_habits()

    def render(self, chat: ChatInput) -> PromptText:
        """The text of a conversation. Raises PromptUnknownError when vLLM would refuse it."""
        template = self._choose(chat)
        messages, media = for_template(chat.messages, template.content_format)
        developers = [message for message in messages if message["role"] == "developer"]
        if developers and not template.knows_developers:
            messages = without_developers(messages)
        elif any(message["tools"] for message in developers):
            raise PromptUnknownError("developer tools")
        variables = self._variables(chat, template)

        def render() -> str:
            return template.render(messages, variables, continue_final_message=chat.continue_final_message)

        try:
            text = render()
            return PromptText(text, chat.add_special_tokens, locate(render, text, media) if media else ())
        except ChatTemplateError as error:
            raise PromptUnknownError("template") from error

    def _find_habits(self) -> TemplateHabits:
        """Tries the templates, as vLLM does when it starts."""
        templates = [self._templates[name] for name in ("default", "tool_use") if name in self._templates]
        leads = any(template.refuses_late_system() for template in templates)
        return TemplateHabits(leads or not templates, self._effort_without_thinking())

    def _effort_without_thinking(self) -> str:
        """``low`` where the template refuses ``none`` or renders it like another effort."""
        without = self._rendered_with("none")
        others = (self._rendered_with(effort) for effort in ("low", "medium", "high", "xhigh", "max"))
        return "low" if without is None or without in others else "none"

    def _rendered_with(self, effort: str) -> str | None:
        variables = {"reasoning_effort": effort, "enable_thinking": effort != "none", "add_generation_prompt": True}
        try:
            return self.render(ChatInput([{"role": "user", "content": "Hi"}], None, variables)).text
        except PromptUnknownError:
            return None

    def _choose(self, chat: ChatInput) -> ChatTemplate:
        found = self._templates.get("tool_use") if chat.tools is not None else None
        found = found or self._templates.get("default")
        if found is None:
            raise PromptUnknownError("no template")
        return found

    def _variables(self, chat: ChatInput, template: ChatTemplate) -> dict[str, Any]:
        """Later ones win: special tokens, the server's defaults, tools, what the request gives."""
        tools = None if chat.tools is None else tools_for_template(chat.tools)
        given = {**self._defaults, **({} if tools is None else {"tools": tools})}
        given.update((name, value) for name, value in chat.variables.items() if value not in _UNSET)
        if "messages" in given or "conversation" in given:
            raise PromptUnknownError("chat_template_kwargs")
        taken = {
            name: value
            for name, value in given.items()
            if name in template.variables and name not in _NOT_FOR_TEMPLATES
        }
        return {"tools": None, "documents": None, **self._special_tokens, **taken}
