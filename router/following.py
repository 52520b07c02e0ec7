"""Makes out of configuration what follows programs, and what each of them may use."""

from __future__ import annotations

from flow.warm_ups.limits import WarmUpLimits
from flow.warm_ups.warm_ups import WarmUps
from router.config import BudgetConfig, ConfigError, WeftConfig
from router.core.programs.budgets import Budget, Budgets
from router.core.programs.lineage_rule import LineageLimits
from router.core.programs.table import TableLimits
from router.core.programs.tracker import Programs

_NEED_PROGRAMS = {"critical-path", "srpt", "working-set"}
"""Orders and admissions that look at more than a program's name."""


def make_programs(config: WeftConfig) -> Programs | None:
    """None: programs are not followed. Raises ConfigError when something was asked for that needs them."""
    programs = config.programs
    if not programs.enabled:
        _refuse_what_needs_programs(config)
        return None
    return Programs(
        TableLimits(
            max_programs=programs.max_programs,
            max_steps=programs.max_steps,
            max_bytes=programs.max_bytes,
            idle_s=programs.idle_s,
            linger_s=programs.linger_s,
        ),
        LineageLimits(
            max_programs=programs.max_programs,
            max_bytes=programs.max_bytes // 2,
            max_steps=programs.max_steps,
            idle_s=programs.idle_s,
        ),
        infers=programs.lineage,
        budgets=_budgets(config),
        tenants=config.tenants,
    )


def make_warm_ups(config: WeftConfig) -> WarmUps | None:
    """None: prefixes are left to the caches. Raises ConfigError."""
    asked = config.programs.warm_up
    if not asked.enabled:
        return None
    key = f"{config.source}: programs.warm_up.enabled"
    if not config.programs.enabled:
        raise ConfigError(f"{key}: needs `programs: {{enabled: true}}`")
    if config.listen == "none":
        raise ConfigError(f"{key}: needs calls that come through the proxy, and `listen` is `none`")
    return WarmUps(
        WarmUpLimits(
            ahead_s=asked.ahead_s,
            least_tokens=asked.least_tokens,
            most_running=asked.most_running,
            max_in_flight=asked.max_in_flight,
            max_per_minute=asked.max_per_minute,
            max_kept=asked.max_kept,
            max_kept_bytes=asked.max_kept_bytes,
        )
    )


def _refuse_what_needs_programs(config: WeftConfig) -> None:
    if _budgets(config) is not None:
        raise ConfigError(f"{config.source}: programs.enabled: budgets and repeat_limit need `enabled: true`")
    for part in (config.queue.order, config.queue.admission):
        if part is not None and part.name in _NEED_PROGRAMS:
            raise ConfigError(f"{config.source}: programs.enabled: {part.name} needs `enabled: true`")


def _budgets(config: WeftConfig) -> Budgets | None:
    """None: nothing is bounded."""
    programs = config.programs
    budgets = Budgets(
        default=_budget(programs.budget),
        of_tenant=_given({name: tenant.program_budget for name, tenant in config.tenants.items()}),
        of_class=_given(programs.class_budgets),
        repeat_limit=programs.repeat_limit,
    )
    return None if budgets == Budgets() else budgets


def _given(budgets: dict[str, BudgetConfig]) -> dict[str, Budget]:
    """Those that set something."""
    return {name: _budget(budget) for name, budget in budgets.items() if budget != BudgetConfig()}


def _budget(config: BudgetConfig) -> Budget:
    return Budget(config.max_tokens, config.max_wall_s, config.max_calls, config.max_open_calls)
