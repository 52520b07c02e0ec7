"""Dynamo: session headers, the trajectory headers before them, and ``nvext`` in the body.

A session is one agent's chain of calls: Dynamo says itself that others call it a program. Sources: ai-dynamo/dynamo,
``docs/agents/{session-ids,trajectory-ids,agent-context,agent-hints}.md`` in their versions of 2026. ``agent_context``
came with workflows and programs first, then with sessions and trajectories.
"""

from __future__ import annotations

from router.hints.dialect import Dialect
from router.hints.field import OUTPUT_TOKENS, PRIORITY, Field
from router.hints.values import flag, name

_CONTEXT = "body.nvext.agent_context."
_HINTS = "body.nvext.agent_hints."

HEADERS = Dialect(
    program=("x-dynamo-trajectory-id",),
    session=("x-dynamo-session-id",),
    parent=("x-dynamo-parent-trajectory-id", "x-dynamo-parent-session-id"),
)

CONTEXT = Dialect(
    program=(_CONTEXT + "program_id", _CONTEXT + "trajectory_id"),
    session=(_CONTEXT + "workflow_id", _CONTEXT + "session_id"),
    parent=(_CONTEXT + "parent_program_id", _CONTEXT + "parent_trajectory_id", _CONTEXT + "parent_session_id"),
)

FIELDS = (
    Field("x-dynamo-session-final", "final", flag),
    Field("x-dynamo-trajectory-final", "final", flag),
    Field(_CONTEXT + "workflow_type_id", "kind", name),
    Field(_CONTEXT + "session_type_id", "kind", name),
    Field(_HINTS + "priority", "priority", PRIORITY),
    Field(_HINTS + "osl", "output_tokens", OUTPUT_TOKENS),
)
"""Higher priorities are more urgent, as here."""
