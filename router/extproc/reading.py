"""What a gateway's request asks for: as the proxy reads it, with what only a gateway says.

That is the model where it has read the body before, and the objective that stands for a priority.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace

from router.core.types import ProgramHint, Request
from router.extproc.names import MODEL, OBJECTIVES
from router.extproc.stream import Route
from router.intake import Intake

Named = Mapping[bytes, bytes]
"""A request's headers by name."""


@dataclass(slots=True, frozen=True)
class PickerSettings:
    fallbacks: int = 0
    """Endpoints named behind the chosen one, to be tried if it cannot be reached."""
    objectives: Mapping[str, int] | None = None
    """Priority by the name of an objective; higher is more urgent."""
    conformance: bool = False
    """Heed the conformance tests' headers."""


class Reading:
    def __init__(self, intake: Intake, settings: PickerSettings) -> None:
        self._intake = intake
        self._settings = settings

    def read(self, route: Route, named: Named, request_id: bytes) -> Request | Awaitable[Request]:
        """At once where the prompt is cheap to tokenise. Raises ApiError 400."""
        headers = route.headers
        if named.get(b"x-request-id") != request_id:
            headers = [*headers, (b"x-request-id", request_id)]
        if route.body is None and not route.is_bodiless:
            return self._intake.read_head(headers)
        return self._intake.read(path_of(named), headers, _json(route, named))

    def completed(self, request: Request, named: Named) -> Request:
        """With what only the gateway's headers say."""
        if not request.model and MODEL in named:
            request.model = named[MODEL].decode("latin-1")
        request.fallbacks = self._settings.fallbacks
        name = next((named[key] for key in OBJECTIVES if key in named), None)
        if name is not None and self._settings.objectives:
            priority = self._settings.objectives.get(name.decode("latin-1"), 0)
            if priority:
                request.program = replace(request.program or ProgramHint(""), priority=priority)
        return request


def path_of(named: Named) -> str:
    return named.get(b":path", b"").partition(b"?")[0].decode("latin-1")


def _json(route: Route, named: Named) -> bytes:
    """The body, if its type says that it can be read."""
    return route.body or b"" if b"json" in named.get(b"content-type", b"json") else b""
