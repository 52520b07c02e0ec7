"""Turns an HTTP request's path, headers and body into the core's Request.

Shared by every data plane. Headers are lower-cased ``(name, value)`` pairs of bytes; what they say is advice from
strangers: bounded in size, and never a reason to refuse a request.
"""

from __future__ import annotations

from collections.abc import Awaitable

from router.core.types import Prompt, Request
from router.engine.api import ApiRequest, read_body
from router.engine.prompts.maker import PromptMaker

Headers = list[tuple[bytes, bytes]]

MAX_SESSION_ID_CHARS = 256

SESSION_HEADERS = (
    b"x-session-id",
    b"x-program-id",
    b"x-claude-code-session-id",
    b"x-dynamo-session-id",
    b"session-id",
    b"session_id",
    b"x-session-affinity",
    b"x-smg-routing-key",
    b"x-correlation-id",
)
"""Headers by which agent tools name a session, the most specific first."""


class Intake:
    """Reads requests. ``read`` answers at once when the prompt is cheap to tokenise."""

    def __init__(self, prompts: PromptMaker) -> None:
        self._prompts = prompts

    def read(self, path: str, headers: Headers, body: bytes) -> Request | Awaitable[Request]:
        """Raises ApiError 400 for a body that no replica could accept."""
        api = read_body(path, body)
        request = _request(api, headers)
        prompt = self._prompts.make(api)
        if prompt is None or isinstance(prompt, Prompt):
            request.prompt = prompt
            return request
        return _with_prompt(request, prompt)


async def _with_prompt(request: Request, prompt: Awaitable[Prompt | None]) -> Request:
    request.prompt = await prompt
    return request


def _request(api: ApiRequest, headers: Headers) -> Request:
    named = dict(headers)
    return Request(
        id=_text(named.get(b"x-request-id", b"")),
        model=api.model or "",
        max_tokens=api.max_tokens,
        streams=api.stream,
        cache_salt=api.cache_salt,
        session_id=_session_id(named) or api.session_id,
        profile=_text(named.get(b"x-weft-profile", b"")),
        explain=named.get(b"x-weft-explain", b"").lower() in (b"1", b"true"),
    )


def _session_id(headers: dict[bytes, bytes]) -> str:
    for name in SESSION_HEADERS:
        value = headers.get(name)
        if value:
            return _text(value)
    return ""


def _text(value: bytes) -> str:
    return value[:MAX_SESSION_ID_CHARS].decode("latin-1")
