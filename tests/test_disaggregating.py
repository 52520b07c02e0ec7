"""What of disaggregation's configuration is refused, and why."""

import pytest

from router.config import ConfigError, parse_config
from router.disaggregating import make_disaggregation
from router.profiles import make_profiles


def made(**section):
    config = parse_config({"disaggregation": section}, "test.yaml")
    return make_disaggregation(config, make_profiles(config.profiles, config.default_profile))


def test_replicas_that_compute_no_prompts_need_the_rule_that_never_asks_them_to():
    with pytest.raises(ConfigError, match=r"test\.yaml: disaggregation\.rule: .* sglang .* use always"):
        made(connector="sglang")
    assert made(connector="sglang", rule="always").rule.name == "always"


def test_a_profile_that_is_not_there():
    with pytest.raises(ConfigError, match=r"disaggregation\.profile: no profile 'nope'"):
        made(profile="nope")


def test_nothing_is_made_where_it_is_not_enabled():
    assert made(enabled=False, connector="sglang") is None
