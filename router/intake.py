"""Turns an HTTP request's path, headers and body into the core's Request.

Shared by every data plane. Headers are lower-cased ``(name, value)`` pairs of bytes; what they say is advice from
strangers: bounded in size, and never a reason to refuse a request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace

import msgspec

from router.core.types import Prompt, Request
from router.engine.api import ApiRequest, Body, read_body, says_transfer
from router.engine.prompts.maker import PromptMaker
from router.hints.reader import HintReader
from router.hints.settings import IdentitySettings
from router.hints.tenants import granted_priority, tenant_of

Headers = list[tuple[bytes, bytes]]
Named = dict[bytes, bytes]

_MAX_TEXT_BYTES = 256


class Intake:
    """Reads requests. ``read`` answers at once when the prompt is cheap to tokenise."""

    def __init__(self, prompts: PromptMaker, identity: IdentitySettings | None = None) -> None:
        self._prompts = prompts
        self._identity = identity or IdentitySettings()
        self._hints = HintReader(self._identity)

    @property
    def warnings(self) -> Counter[str]:
        """Hints that were malformed and left out, by ``<header or field>: <reason>``."""
        return self._hints.warnings

    def read(self, path: str, headers: Headers, body: bytes) -> Request | Awaitable[Request]:
        """Raises ApiError 400 for a body that no replica could accept.

        A body that is not JSON (an audio upload, say) comes here empty, and is routed by load.
        """
        named = dict(headers)
        if not body and _is_not_json(named):
            return self.read_head(headers)
        api = read_body(path, body)
        request = self._identified(_request(named, api), headers, named, api.body)
        prompt = self._prompts.make(api)
        if prompt is None or isinstance(prompt, Prompt):
            request.prompt = prompt
            return request
        return _with_prompt(request, prompt)

    def read_head(self, headers: Headers) -> Request:
        """A request of which nothing but the head is known: it is routed by that, and by load."""
        named = dict(headers)
        return self._identified(_request(named), headers, named)

    def _identified(self, request: Request, headers: Headers, named: Named, body: Body | None = None) -> Request:
        """With whose it is, and what it belongs to."""
        request.tenant = tenant_of(headers, self._identity, self.warnings)
        program, request.session_id = self._hints.read(named, body)
        if program is not None and program.priority:
            granted = granted_priority(program.priority, request.tenant, self._identity)
            program = replace(program, priority=granted)
        request.program = program
        return request


async def _with_prompt(request: Request, prompt: Awaitable[Prompt | None]) -> Request:
    request.prompt = await prompt
    return request


def _is_not_json(headers: Named) -> bool:
    return b"json" not in headers.get(b"content-type", b"json")


def _request(headers: Named, api: ApiRequest | None = None) -> Request:
    request = Request(
        id=_text(headers.get(b"x-request-id", b"")),
        model="",
        profile=_text(headers.get(b"x-weft-profile", b"")),
        explain=headers.get(b"x-weft-explain", b"").lower() in (b"1", b"true"),
    )
    if api is not None:
        request.model = api.model or ""
        request.max_tokens = api.max_tokens
        request.streams = api.stream
        request.cache_salt = api.cache_salt
        request.says_priority = api.body.priority is not msgspec.UNSET
        request.says_transfer = says_transfer(api.body)
    return request


def _text(value: bytes) -> str:
    return value[:_MAX_TEXT_BYTES].decode("latin-1")
