"""Makes disaggregation out of configuration."""

from __future__ import annotations

from collections.abc import Mapping

from flow.registry import UnknownPartError, make_rule
from router.config import ConfigError, WeftConfig
from router.core.disaggregation.settings import Disaggregation
from router.core.scheduler import Profile
from router.engine.kv_transfer.connector import make_connector


def make_disaggregation(config: WeftConfig, profiles: Mapping[str, Profile]) -> Disaggregation | None:
    """As `disaggregation` has it; None where it is not enabled. Raises ConfigError that names file, key and what is
    allowed."""
    section, key = config.disaggregation, f"{config.source}: disaggregation"
    if not section.enabled:
        return None
    if section.profile not in profiles:
        raise ConfigError(f"{key}.profile: no profile {section.profile!r}; there are {', '.join(sorted(profiles))}")
    aggregates = make_connector(section.connector).aggregates
    if not aggregates and section.rule.name != "always":
        raise ConfigError(f"{key}.rule: the decode replicas of {section.connector} compute no prompts: use always")
    try:
        rule = make_rule(section.rule.name, section.rule.parameters)
    except UnknownPartError as error:
        raise ConfigError(f"{key}.rule: {error}") from error
    return Disaggregation(
        rule=rule,
        profile=profiles[section.profile],
        among_equals=section.among_equals,
        aggregates=aggregates,
        max_prefills=section.max_prefills,
        bytes_per_token=section.kv_bytes_per_token,
        labels=section.labels,
    )
