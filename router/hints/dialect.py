"""Dialects: how one family of clients says which program a call belongs to, as a row of a table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

from router.hints.said import Keys, Said
from router.hints.values import MAX_NAME_CHARS


class Named(NamedTuple):
    """A program as a client names it."""

    id: str
    session: str
    """What shares most of its prompts: the program's session, or the program itself."""
    parent: str
    """The program that spawned this one, or ""."""
    kind: str


@dataclass(slots=True, frozen=True, kw_only=True)
class Dialect:
    """Where to look; of several keys the first that says something counts.

    Either ``program`` names programs by themselves, or a program is an ``agent`` within a ``session``, whose first
    agent has no name: ids of agents are only told apart within their session.
    """

    program: Keys = ()
    session: Keys = ()
    agent: Keys = ()
    parent: Keys = ()
    parent_agent: Keys = ()
    """The agent that spawned this one, in the same session."""
    kind: str = ""
    """The class of program, where the dialect alone tells it."""

    def find(self, said: Said) -> Named | None:
        """The program that is named in this dialect, if one is."""
        session = said.name(self.session)
        program = said.name(self.program)
        if not program and not session:
            return None
        parent = said.name(self.parent)
        if program or not self.agent:
            return Named(program or session, session or program, parent, self.kind)
        agent = self._within(session, self.agent, said)
        if not agent:
            return Named(session, session, parent, self.kind)
        return Named(agent, session, parent or self._within(session, self.parent_agent, said) or session, self.kind)

    @property
    def keys(self) -> Keys:
        """Everything that this dialect looks at."""
        values = (getattr(self, each.name) for each in fields(self))
        return tuple(key for value in values if isinstance(value, tuple) for key in value)

    @staticmethod
    def _within(session: str, keys: Keys, said: Said) -> str:
        agent = said.name(keys)
        if not agent:
            return ""
        if len(session) + len(agent) >= MAX_NAME_CHARS:
            said.refuse(keys[0], "too long together with its session")
            return ""
        return f"{session}/{agent}"
