"""Budgets: what one program may use, and how often it may ask the same again, before its calls are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from router.core.programs.program import Program
from router.core.types import Refusal, RefusalReason, Request

_RETRY_AFTER_S = 1.0


@dataclass(slots=True, frozen=True)
class Budget:
    """Of one program. None: no bound."""

    max_tokens: int | None = None
    """Prompt and answer tokens of all its calls, as replicas report them, cached ones included."""
    max_wall_s: float | None = None
    """From its first call, or its declaration."""
    max_calls: int | None = None
    max_open_calls: int | None = None
    """Calls that wait or run at once."""

    def but(self, other: Budget) -> Budget:
        """With what ``other`` sets."""
        return self._with(other, lambda mine, its: mine if its is None else its)

    def within(self, other: Budget) -> Budget:
        """The smaller of each."""
        return self._with(other, _smaller)

    def _with(self, other: Budget, choose: Callable[[Any, Any], Any]) -> Budget:
        return Budget(
            choose(self.max_tokens, other.max_tokens),
            choose(self.max_wall_s, other.max_wall_s),
            choose(self.max_calls, other.max_calls),
            choose(self.max_open_calls, other.max_open_calls),
        )


@dataclass(slots=True, frozen=True)
class Budgets:
    """Who may use what. A class can only lower what its tenant may use: it is the client that names it."""

    default: Budget = field(default_factory=Budget)
    of_tenant: Mapping[str, Budget] = field(default_factory=dict)
    """What it sets goes before the default."""
    of_class: Mapping[str, Budget] = field(default_factory=dict)
    repeat_limit: int | None = None
    """How often in a row the same prompt may come again when it was answered. None: always."""

    def budget(self, tenant: str, kind: str) -> Budget:
        budget = self.default.but(self.of_tenant[tenant]) if tenant in self.of_tenant else self.default
        return budget.within(self.of_class[kind]) if kind in self.of_class else budget

    def refusal(self, program: Program | None, request: Request, now: float) -> Refusal | None:
        """Why a call that came now must not go on. ``program``: None if it is the first of one."""
        hint = request.program
        kind = (hint.kind if hint is not None else "") or (program.kind if program is not None else "")
        budget = self.budget(request.tenant, kind)
        name = request.program_key[1]
        if program is None:
            return _over(name, "tokens", budget.max_tokens, 0, request.prompt_tokens)
        return (
            _over(name, "calls", budget.max_calls, program.calls, 1)
            or _over(name, "tokens", budget.max_tokens, program.tokens, request.prompt_tokens)
            or _over(name, "s", budget.max_wall_s, now - program.first_seen_s, 0)
            or _over(name, "calls at once", budget.max_open_calls, program.open, 1, _RETRY_AFTER_S)
        )

    def loop(self, program: str, repeats: int) -> Refusal | None:
        """Why a call whose prompt came ``repeats`` times again in a row must not go on."""
        if self.repeat_limit is None or repeats <= self.repeat_limit:
            return None
        message = (
            f"The program `{program}` has sent the same prompt {repeats + 1} times in a row, "
            f"{self.repeat_limit + 1} times are allowed; it seems to go in circles."
        )
        return Refusal(RefusalReason.PROGRAM_LOOP, message)


def _over(
    program: str, what: str, limit: float | None, used: float, asked: int, retry_after_s: float | None = None
) -> Refusal | None:
    if limit is None or used + asked <= limit:
        return None
    more = f" and asks for {asked:,} more" if asked else ""
    message = f"The program `{program}` may have {limit:,} {what}; it has {round(used, 1):,}{more}."
    return Refusal(RefusalReason.PROGRAM_BUDGET_EXCEEDED, message, retry_after_s)


def _smaller(one: Any, other: Any) -> Any:
    return min((value for value in (one, other) if value is not None), default=None)
