"""What a /v1/completions body says of its prompt."""

from __future__ import annotations

from router.engine.api import Body, present
from router.engine.prompts.chat_input import PromptUnknownError, decode, flag
from router.engine.prompts.prompt_text import PromptText


def read_completion(body: Body) -> PromptText:
    """The text of a completion's prompt.

    Of a batch the first text counts: the whole batch goes to one replica, and its members mostly share a
    prefix if any. Raises PromptUnknownError for infilling, embeddings and what vLLM would refuse.
    """
    if present(body.suffix) or present(body.prompt_embeds):
        raise PromptUnknownError("prompt")
    prompt = decode(body.prompt, "prompt")
    if isinstance(prompt, list) and prompt:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise PromptUnknownError("prompt")
    return PromptText(prompt, flag(body.add_special_tokens, True))
