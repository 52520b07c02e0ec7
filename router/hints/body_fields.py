"""Fields in the body by which frameworks name programs: vLLM Router, ThunderAgent, Continuum, OpenAI's conversations.

Sources: vllm-project/router#285 (``agentic_context``: programs are agents within a task or session), ThunderAgent's
``program_id``, Continuum's ``job_id`` and ``is_last_step``, LiteLLM's and OpenHands' ``metadata.session_id``.
"""

from __future__ import annotations

from router.hints.dialect import Dialect
from router.hints.field import OUTPUT_TOKENS, SECONDS, Field
from router.hints.values import flag, name

_AGENTIC = "body.vllm_xargs.agentic_context."

AGENTIC_CONTEXT = Dialect(
    program=(_AGENTIC + "program_id",),
    session=(_AGENTIC + "task_id", _AGENTIC + "session_id"),
    agent=(_AGENTIC + "agent_id",),
    parent=(_AGENTIC + "parent_program_id",),
    parent_agent=(_AGENTIC + "parent_agent_id",),
)

PLAIN = Dialect(
    program=("body.program_id", "body.job_id", "body.metadata.program_id"),
    session=(
        "body.session_id",
        "body.vllm_xargs.session_id",
        "body.conversation",
        "body.conversation.id",
        "body.metadata.session_id",
    ),
    parent=("body.parent_program_id", "body.metadata.parent_program_id"),
)

FIELDS = (
    Field(_AGENTIC + "step_id", "step", name),
    Field(_AGENTIC + "expected_output_length", "output_tokens", OUTPUT_TOKENS),
    Field(_AGENTIC + "deadline_seconds", "deadline_in_s", SECONDS),
    Field("body.is_last_step", "final", flag),
)
"""``agentic_context.priority`` is left out: its RFC does not say which end is urgent, and in vLLM the low end is."""
