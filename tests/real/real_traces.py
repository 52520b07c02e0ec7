"""Agent sessions of a real trace as chats: each call's conversation, and what the agent answered.

The trace has one line per call: ``{"session_id", "timestamp", "input", "output"}``. ``input`` is all that the agent was
told so far, without its own answers, so that what is new in it since the last call is one user message.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

TRACE = Path(os.environ.get("WEFT_TRACE") or Path(__file__).parents[3] / "shared" / "traces" / "miniswe_text.jsonl.gz")
SYSTEM = "You are an engineer who solves tasks by shell commands. Answer with a thought and one command."
_MESSAGE_TOKENS = 8
"""An upper bound of what the template writes around a message."""

Message = dict[str, str]


@dataclass(slots=True, frozen=True)
class Turn:
    """One call: what is said to the agent, and what it said."""

    user: str
    assistant: str


def read_sessions(path: Path, tokenizer: Tokenizer, max_prompt_tokens: int) -> list[list[Turn]]:
    """The trace's sessions, each cut off before the call whose prompt is too long for the model."""
    calls: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            call = json.loads(line)
            calls[call["session_id"]].append((call["timestamp"], call["input"], call["output"]))
    sessions = [list(_turns(sorted(each))) for each in calls.values()]
    return [list(_that_fit(turns, tokenizer, max_prompt_tokens)) for turns in sessions]


def conversation(turns: list[Turn]) -> list[Message]:
    """The messages of the call that the last of ``turns`` answers."""
    messages = [{"role": "system", "content": SYSTEM}]
    for turn in turns:
        messages.append({"role": "user", "content": turn.user})
        messages.append({"role": "assistant", "content": turn.assistant})
    return messages[:-1]


def _turns(calls: list[tuple[int, str, str]]) -> Iterator[Turn]:
    told = ""
    for _, text, answer in calls:
        if not text.startswith(told):
            return
        yield Turn(text[len(told) :], answer)
        told = text


def _that_fit(turns: list[Turn], tokenizer: Tokenizer, max_prompt_tokens: int) -> Iterator[Turn]:
    def tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False)) + _MESSAGE_TOKENS

    prompt_tokens = tokens(SYSTEM)
    for turn in turns:
        prompt_tokens += tokens(turn.user)
        if prompt_tokens > max_prompt_tokens:
            return
        yield turn
        prompt_tokens += tokens(turn.assistant)
