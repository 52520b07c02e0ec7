"""Programs and budgets as a configuration file has them."""

import pytest

from router.config import ConfigError, parse_config
from router.core.programs.budgets import Budget
from router.core.programs.table import TableLimits
from router.following import make_programs


def programs(**content):
    return make_programs(parse_config(content, "weft.yaml"))


def test_nothing_is_bounded_unless_it_is_asked_for():
    followed = programs(programs={"enabled": True})
    assert followed.table.limits == TableLimits(max_programs=20_000, max_bytes=256 << 20)
    assert followed.lineage is not None
    assert followed._budgets is None


def test_programs_are_followed_only_if_it_is_asked_for():
    assert programs() is None


@pytest.mark.parametrize(
    "asked",
    [
        {"programs": {"budget": {"max_calls": 1}}},
        {"programs": {"repeat_limit": 3}},
        {"tenants": {"gold": {"program_budget": {"max_calls": 1}}}},
        {"queue": {"order": "critical-path"}},
        {"queue": {"admission": "working-set"}},
    ],
)
def test_what_needs_programs_says_so(asked):
    with pytest.raises(ConfigError, match=r"weft.yaml: programs\.enabled: .* needs? `enabled: true`"):
        programs(**asked)


def test_prompts_need_not_name_programs():
    assert programs(programs={"enabled": True, "lineage": False}).lineage is None


def test_limits_and_budgets_as_a_file_has_them():
    followed = programs(
        programs={
            "enabled": True,
            "max_programs": 10,
            "max_steps": 20,
            "max_bytes": 1 << 20,
            "idle_s": 5,
            "linger_s": 0,
            "budget": {"max_calls": 7},
            "class_budgets": {"crawler": {"max_open_calls": 3}, "same": {}},
            "repeat_limit": 4,
        },
        tenants={"gold": {"program_budget": {"max_calls": 70}}, "tin": {}},
    )
    assert followed.table.limits == TableLimits(10, 20, 1 << 20, 5.0, 0.0)
    assert followed.lineage.limits.max_bytes == 1 << 19
    assert followed._budgets.repeat_limit == 4
    assert followed._budgets.budget("gold", "same") == Budget(max_calls=70)
    assert followed._budgets.budget("tin", "crawler") == Budget(max_calls=7, max_open_calls=3)
    assert set(followed.tenant_tokens) == {"gold", "tin", "(other)"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"programs": {"enable": True}}, ["programs.enable", "unknown key", "enabled"]),
        ({"programs": {"max_programs": 0}}, ["programs.max_programs", "greater than or equal to 1"]),
        ({"programs": {"max_bytes": 5}}, ["programs.max_bytes", "1048576"]),
        ({"programs": {"budget": {"tokens": 5}}}, ["programs.budget.tokens", "unknown key", "max_tokens"]),
        ({"programs": {"class_budgets": {"c": {"max_calls": 0}}}}, ["programs.class_budgets.c.max_calls"]),
        ({"programs": {"class_budgets": {"c": {"calls": 1}}}}, ["class_budgets.c.calls", "unknown key", "max_calls"]),
        ({"programs": {"repeat_limit": 0}}, ["programs.repeat_limit"]),
        ({"tenants": {"a": {"program_budget": {"max_wall_s": 0}}}}, ["tenants.a.program_budget.max_wall_s"]),
    ],
)
def test_errors_name_the_key_and_what_is_allowed(content, said):
    with pytest.raises(ConfigError) as error:
        programs(**content)
    assert all(word in str(error.value) for word in said), str(error.value)
