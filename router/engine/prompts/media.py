"""Images, audio and video in a conversation: which they are, and where in the prompt they stand.

An engine replaces each by a number of tokens that only its processor knows. So the token ids here are the
engine's own up to the first of them. Behind it they still serve to recognise the same prompt again, and the
content key at each position keeps prompts with different media apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from router.core.index.hashing import key_hash, mix_media
from router.engine.prompts.chat_input import PromptUnknownError

MAX_LOCATED = 16
"""Each costs one more rendering; the keys of further ones are folded into the last."""

MARK = "\ue000media\ue001"
_MODALITIES = {
    "image_url": "image",
    "input_image": "image",
    "image_embeds": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "audio_embeds": "audio",
    "video_url": "video",
    "video_embeds": "video",
}


@dataclass(slots=True)
class MediaSlot:
    """Where a piece of media stands in a conversation: ``container[at]`` leads to it."""

    container: Any
    at: int | str
    marked: Any
    """What to put there instead to see where the media comes to stand."""
    key: int
    """64-bit content key."""


def modality(part: Any) -> str | None:
    """``image``, ``audio`` or ``video``; None for a part that is no media."""
    kind = part.get("type") if isinstance(part, dict) else None
    return _MODALITIES.get(kind) if isinstance(kind, str) else None


def content_key(part: dict[str, Any]) -> int:
    """The key of a media part: of the name that the client gave it, else of all that it says."""
    named = part.get("uuid")
    return key_hash(named if isinstance(named, str) else msgspec.json.encode(part))


def locate(render: Callable[[], str], text: str, slots: Sequence[MediaSlot]) -> tuple[tuple[int, int], ...]:
    """(character position, content key) of each piece of media in ``text``, ascending.

    ``render`` renders the conversation that ``slots`` belong to; ``text`` is what it returned. Raises
    PromptUnknownError when a piece cannot be found.
    """
    found = [(_position(render, text, slot), slot.key) for slot in slots[:MAX_LOCATED]]
    for slot in slots[MAX_LOCATED:]:
        position, key = found[-1]
        found[-1] = position, mix_media(key, slot.key)
    return tuple(sorted(found))


def _position(render: Callable[[], str], text: str, slot: MediaSlot) -> int:
    kept = slot.container[slot.at]
    slot.container[slot.at] = slot.marked
    try:
        marked = render()
    finally:
        slot.container[slot.at] = kept
    position = marked.find(MARK)
    if position < 0 or not text.startswith(marked[:position]):
        raise PromptUnknownError("media")
    return position
