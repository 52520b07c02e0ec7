"""Makes scheduling profiles out of configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import TypeVar

import yaml

from router.config import ConfigError, ProfileConfig
from router.core.filters import Decodes, Filter, Healthy, Lora, Model, Prefills, Subset
from router.core.pickers import MaxScore, Picker, PowerOfTwo, RoundRobin, WeightedRandom
from router.core.scheduler import Profile, WeightedScorer
from scorers.registry import UnknownScorerError, make_scorer

_Kind = TypeVar("_Kind")

FILTERS: dict[str, Callable[[], Filter]] = {
    each.name: each for each in (Healthy, Model, Lora, Decodes, Prefills, Subset)
}
PICKERS: dict[str, Callable[[], Picker]] = {
    each.name: each for each in (MaxScore, WeightedRandom, PowerOfTwo, RoundRobin)
}


def shipped_profiles() -> dict[str, ProfileConfig]:
    """The profiles in ``profiles.yaml``."""
    content = yaml.safe_load(files("router").joinpath("profiles.yaml").read_text(encoding="utf-8"))
    return {name: ProfileConfig.model_validate(profile) for name, profile in content.items()}


def make_profiles(configured: Mapping[str, ProfileConfig], default: str = "default") -> dict[str, Profile]:
    """All profiles by name, with ``default`` under the key ``default`` as well. Raises ConfigError."""
    configs = shipped_profiles() | dict(configured)
    if default not in configs:
        raise ConfigError(f"default_profile: no profile {default!r}; there are {', '.join(sorted(configs))}")
    profiles = {name: make_profile(name, config) for name, config in configs.items()}
    return profiles | {"default": profiles[default]}


def make_profile(name: str, config: ProfileConfig) -> Profile:
    """One profile. Raises ConfigError that names the key and what is allowed."""
    return Profile(
        name=name,
        filters=[_named(f"profiles.{name}.filters", FILTERS, each)() for each in config.filters],
        scorers=[_scorer(name, position, config) for position in range(len(config.scorers))],
        picker=_named(f"profiles.{name}.picker", PICKERS, config.picker)(),
    )


def _scorer(profile: str, position: int, config: ProfileConfig) -> WeightedScorer:
    scorer = config.scorers[position]
    try:
        return WeightedScorer(make_scorer(scorer.name, scorer.parameters), scorer.weight)
    except UnknownScorerError as error:
        raise ConfigError(f"profiles.{profile}.scorers.{position}: {error}") from error


def _named(key: str, known: Mapping[str, _Kind], name: str) -> _Kind:
    if name not in known:
        raise ConfigError(f"{key}: no {name!r}; allowed: {', '.join(sorted(known))}")
    return known[name]
