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
        """Raises ApiError 400 for a body that no replica could accept.

        A body that is not JSON (an audio upload, say) comes here empty, and is routed by load.
        """
        named = dict(headers)
        if not body and _is_not_json(named):
            return _request(named)
        api = read_body(path, body)
        request = _request(named, api)
        prompt = self._prompts.make(api)
        if prompt is None or isinstance(prompt, Prompt):
            request.prompt = prompt
            return request
        return _with_prompt(request, prompt)


async def _with_prompt(request: Request, prompt: Awaitable[Prompt | None]) -> Request:
    request.prompt = await prompt
    return request


def _is_not_json(headers: dict[bytes, bytes]) -> bool:
    return b"json" not in headers.get(b"content-type", b"json")


def _request(headers: dict[bytes, bytes], api: ApiRequest | None = None) -> Request:
    request = Request(
        id=_text(headers.get(b"x-request-id", b"")),
        model="",
        session_id=_session_id(headers),
        profile=_text(headers.get(b"x-weft-profile", b"")),
        explain=headers.get(b"x-weft-explain", b"").lower() in (b"1", b"true"),
    )
    if api is not None:
        request.model = api.model or ""
        request.max_tokens = api.max_tokens
        request.streams = api.stream
        request.cache_salt = api.cache_salt
        request.session_id = request.session_id or api.session_id
    return request


def _session_id(headers: dict[bytes, bytes]) -> str:
    for name in SESSION_HEADERS:
        value = headers.get(name)
        if value:
            return _text(value)
    return ""


def _text(value: bytes) -> str:
    return value[:MAX_SESSION_ID_CHARS].decode("latin-1")
