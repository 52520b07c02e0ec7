"""Reads what a request says of its program, in whichever dialect, from its headers and its body.

All of it is advice from strangers: bounded in size and number, checked, and never a reason to refuse a request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from router.core.types import ProgramHint
from router.engine.api import Body
from router.hints.body_values import body_values
from router.hints.dialect import Dialect, Named
from router.hints.said import BODY, Said
from router.hints.settings import IdentitySettings
from router.hints.tables import DIALECTS, FIELDS, KEYS, SESSION, SHARED


class Hints(NamedTuple):
    """What a request says of its program."""

    program: ProgramHint | None
    """None: nothing. With an empty id: something of the call, but not which program it belongs to."""
    session_id: str
    """What shares most of its prompts, "" when nothing says."""


_FIELD_RANKS = {each.key: rank for rank, each in enumerate(FIELDS)}
NOTHING = Hints(None, "")


class HintReader:
    """``warnings`` counts what was malformed by ``<header or field>: <reason>``; there are a few hundred of these."""

    def __init__(self, settings: IdentitySettings | None = None) -> None:
        settings = settings or IdentitySettings()
        self.warnings: Counter[str] = Counter()
        own, *others = DIALECTS
        self._dialects = (own, Dialect(program=settings.program_headers), *others)
        by_rank = [(key, rank) for rank, each in enumerate(self._dialects) for key in (*each.program, *each.session)]
        self._ranks = dict(reversed(by_rank))
        headers = [key for key in (*KEYS, *settings.program_headers) if not key.startswith(BODY)]
        self._headers = {key.encode(): key for key in headers if key != settings.tenant_header}

    def read(self, headers: Mapping[bytes, bytes], body: Body | None = None) -> Hints:
        """``headers`` by lower-cased name. Raises nothing, whatever they hold."""
        known = self._headers
        values: dict[str, object] = {known[key]: headers[key] for key in headers if key in known}
        if body is not None:
            values.update(body_values(body, self.warnings))
        if not values:
            return NOTHING
        said = Said(values, self.warnings)
        named = self._named(said)
        program = _program(said, named)
        session = said.name(SESSION) or (named.session if named else said.name(SHARED))
        return Hints(program if program is not None or not session else ProgramHint(""), session)

    def _named(self, said: Said) -> Named | None:
        for key in said.among(self._ranks):
            if (named := self._dialects[self._ranks[key]].find(said)) is not None:
                return named
        return None


def _program(said: Said, named: Named | None) -> ProgramHint | None:
    """The hint: each field as the first says it that says it well."""
    told: dict[str, Any] = {}
    for key in said.among(_FIELD_RANKS):
        _, tells, read = FIELDS[_FIELD_RANKS[key]]
        if tells not in told and (value := said.read(key, read)) not in (None, ""):
            told[tells] = value
    if named is None:
        return ProgramHint("", **told) if told else None
    parent = told.pop("parent", named.parent)
    kind = told.pop("kind", named.kind)
    return ProgramHint(named.id, parent=parent if parent != named.id else "", kind=kind, **told)
