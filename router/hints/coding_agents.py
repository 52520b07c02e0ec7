"""Coding agents: the headers that Claude Code, Codex and OpenCode send without being asked.

Sources: the headers of Claude Code 2.1.268 and OpenCode 1.18.31 as captured in preloop/preloop#701, Dynamo's
``lib/llm/src/protocols/agents.rs``, ai-dynamo/dynamo#12331 for Codex, llm-d's ``agent-identity`` plug-in.
"""

from __future__ import annotations

from router.hints.dialect import Dialect
from router.hints.field import Field
from router.hints.values import name

CLAUDE_CODE = Dialect(
    session=("x-claude-code-session-id", "body.metadata.user_id.session_id"),
    agent=("x-claude-code-agent-id",),
    parent_agent=("x-claude-code-parent-agent-id",),
    kind="claude-code",
)
"""Agents share their session's id. The body has the session too, for proxies that drop headers they do not know."""

CODEX = Dialect(
    program=("thread-id",),
    session=("session-id", "session_id"),
    parent=("x-codex-parent-thread-id",),
    kind="codex",
)
"""Threads share the session of their root. Before 0.131 there was only the session, spelt with an underscore."""

OPENCODE = Dialect(
    session=("x-session-id", "x-opencode-session", "x-session-affinity"),
    parent=("x-parent-session-id",),
)
"""Each agent has a session. vLLM's clients send the first too, and AIPerf the last, so that no class is told."""

FIELDS = (
    Field("x-claude-code-agent-type", "kind", name),
    Field("x-openai-subagent", "kind", name),
)
