"""The tables of all dialects in the order in which they are believed: what is said first, counts."""

from __future__ import annotations

from router.hints import body_fields, coding_agents, dynamo, gateways, weft
from router.hints.said import Keys

DIALECTS = (
    weft.DIALECT,
    dynamo.HEADERS,
    coding_agents.CLAUDE_CODE,
    coding_agents.CODEX,
    coding_agents.OPENCODE,
    gateways.SESSION_KEYS,
    body_fields.AGENTIC_CONTEXT,
    dynamo.CONTEXT,
    body_fields.PLAIN,
    gateways.FAIRNESS,
)
"""A program's name and its parent are taken from one of them, never put together from two."""

FIELDS = weft.FIELDS + coding_agents.FIELDS + dynamo.FIELDS + gateways.FIELDS + body_fields.FIELDS
"""What is said of the call may come from others than the name."""

SESSION: Keys = ("x-session-id",)
"""The session, wherever the program's name comes from."""

SHARED: Keys = ("x-correlation-id", "body.prompt_cache_key", "body.metadata.user_id")
"""What may keep requests together, and names no program. OpenAI's clients give one prompt_cache_key to all prompts that
begin alike, user_id is a person, and gateways give every request a correlation id of its own."""

KEYS: Keys = tuple(
    dict.fromkeys(
        [key for dialect in DIALECTS for key in dialect.keys] + [each.key for each in FIELDS] + [*SESSION, *SHARED]
    )
)
