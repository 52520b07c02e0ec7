"""A prompt between rendering and tokenising."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class PromptText:
    """The text that is tokenised, and what else decides the ids."""

    text: str
    add_special_tokens: bool
    media: tuple[tuple[int, int], ...] = ()
    """(character position, content key) of each image, audio or video, ascending."""
