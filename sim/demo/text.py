"""What the demo's agents read and write: plausible words, an agent's instructions and its tools."""

from __future__ import annotations

import random
from typing import Any

from sim.model.build import WORDS

TOKENS_PER_WORD = 1.25
"""Of such sentences, under the tokenizer of the simulated model."""

INSTRUCTIONS = (
    "You are a software engineer who works on one issue of a repository until its tests pass. Think in one or two "
    "sentences, then act with one tool, then read what it says. Never guess at the content of a file. These are the "
    "rules of the house:\n"
)

_TOOLS = {
    "shell": ("Run a command in the root of the repository and return what it prints.", ("command", "timeout")),
    "read_file": ("Return the lines of a file between two line numbers.", ("path", "first_line", "last_line")),
    "write_file": ("Replace a file, or create it with the directories above it.", ("path", "content")),
    "edit_file": ("Replace one occurrence of a text in a file.", ("path", "old_text", "new_text")),
    "search": ("Find a regular expression in all files below a directory.", ("pattern", "directory")),
    "run_tests": ("Run the tests whose names match, and return the failures.", ("pattern",)),
    "open_page": ("Fetch a page of the documentation as plain text.", ("url",)),
    "submit": ("Hand in the change together with a summary for the reviewer.", ("summary",)),
}

TOOLS: tuple[dict[str, Any], ...] = tuple(
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {each: {"type": "string", "description": each.replace("_", " ")} for each in arguments},
                "required": [arguments[0]],
            },
        },
    }
    for name, (description, arguments) in _TOOLS.items()
)
"""Tool definitions in the shape of OpenAI's API."""


def write(rng: random.Random, tokens: int) -> str:
    """About ``tokens`` tokens of sentences. Two calls share a beginning only by chance."""
    words = rng.choices(WORDS.split(), k=max(1, round(tokens / TOKENS_PER_WORD)))
    for start in range(0, len(words), 12):
        words[start] = words[start].capitalize()
        last = min(start + 11, len(words) - 1)
        words[last] += "."
    return " ".join(words)


def estimated_tokens(text: str) -> int:
    return round(len(text.split()) * TOKENS_PER_WORD)
