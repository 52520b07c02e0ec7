"""Weft's own headers."""

from __future__ import annotations

from router.hints.dialect import Dialect
from router.hints.field import MILLISECONDS, OUTPUT_TOKENS, PRIORITY, STEPS, WIDTH, Field
from router.hints.values import flag, name, names

DIALECT = Dialect(program=("x-program-id",))

FIELDS = (
    Field("x-program-step", "step", name),
    Field("x-program-after", "after", names),
    Field("x-program-join", "join", name),
    Field("x-program-width", "width", WIDTH),
    Field("x-program-parent", "parent", name),
    Field("x-program-class", "kind", name),
    Field("x-program-remaining", "remaining_steps", STEPS),
    Field("x-program-output-tokens", "output_tokens", OUTPUT_TOKENS),
    Field("x-program-deadline-ms", "deadline_in_s", MILLISECONDS),
    Field("x-program-priority", "priority", PRIORITY),
    Field("x-program-final", "final", flag),
)
"""Each also counts when another dialect names the program."""
