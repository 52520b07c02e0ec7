"""Makes the prompt of a request in the way that fits its model: ``local``, ``replica`` or ``text``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from typing import Protocol

from router.core.types import Prompt
from router.engine.api import ApiKind, ApiRequest

_WITHOUT_PROMPT = frozenset({ApiKind.EMBEDDINGS, ApiKind.OTHER})


class PromptSource(Protocol):
    """One mode for one model. ``make`` answers at once when that is cheap, else with something to await.

    None: nothing can be said about the prompt's blocks, and the request is routed by load. Never raises for
    what a client sent.
    """

    skipped: Counter[str]
    """Requests that got no prompt, by reason."""

    def make(self, api: ApiRequest) -> Prompt | Awaitable[Prompt | None] | None: ...


class PromptMaker:
    """Chooses the source by the model that the client named."""

    def __init__(self, default: PromptSource) -> None:
        self.default = default
        self.by_model: dict[str, PromptSource] = {}
        """Model or adapter name to its source; may change while traffic flows."""

    def make(self, api: ApiRequest) -> Prompt | Awaitable[Prompt | None] | None:
        if api.kind in _WITHOUT_PROMPT:
            return None
        if api.model is None:
            return self.default.make(api)
        return self.by_model.get(api.model, self.default).make(api)
