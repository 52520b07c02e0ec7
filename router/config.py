"""The configuration file: what may stand in ``weft.yaml``, and what an error in it says.

Every key has a default; an unknown key, a wrong type or a value out of range is an error that names the file, the key,
what is wrong and what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, with_config

from router.core.router import RouterSettings
from router.proxy.limits import ProxyLimits


class ConfigError(Exception):
    """The configuration cannot be used. The message names file, key, what is wrong and what is allowed."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScorerConfig(_Section):
    name: str
    """A shipped scorer, an entry point of ``weft.scorers``, or ``module:Class``."""
    weight: float = Field(1.0, ge=0.0)
    parameters: dict[str, Any] = Field(default_factory=dict)


class ProfileConfig(_Section):
    filters: list[str] = Field(default_factory=lambda: ["healthy", "model", "lora", "subset"])
    scorers: list[ScorerConfig] = Field(default_factory=list)
    picker: str = "max-score"


class PromptConfig(_Section):
    """How prompts for one model become token ids."""

    tokenizer: Literal["local", "replica", "text"] = "replica"
    path: Path | None = None
    """Directory with ``tokenizer.json`` and the chat template; needed by ``local``."""
    chat_template: Path | None = None
    """A template of its own, where vLLM was started with ``--chat-template``."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """As vLLM's ``--default-chat-template-kwargs``."""


class DnsConfig(_Section):
    """Replicas found by name. A: each address with ``port``. SRV: targets and ports from the record."""

    name: str
    port: int = Field(8000, ge=1, le=65535)
    record: Literal["A", "SRV"] = "A"
    interval_s: float = Field(10.0, gt=0.0)


class EngineConfig(_Section):
    """How Weft watches its replicas."""

    metrics_interval_s: float = Field(default=1.0, gt=0.0)
    health_interval_s: float = Field(default=5.0, gt=0.0)


def _check_positive(section: ProxyLimits | RouterSettings) -> None:
    for each in fields(section):
        value = getattr(section, each.name)
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"{each.name} is {value}, allowed: 0 or more")


@with_config(ConfigDict(extra="forbid"))
@dataclass(slots=True, frozen=True)
class LimitsConfig(ProxyLimits):
    """The proxy's limits as a file may set them."""

    def __post_init__(self) -> None:
        _check_positive(self)


@with_config(ConfigDict(extra="forbid"))
@dataclass(slots=True, frozen=True)
class CoreConfig(RouterSettings):
    """The core's settings as a file may set them."""

    def __post_init__(self) -> None:
        _check_positive(self)


class WeftConfig(_Section):
    """The whole file."""

    listen: str = "127.0.0.1:8080"
    replicas: list[str] = Field(default_factory=list)
    """Replicas as on the command line: ``http://host:8000,events=tcp://host:5557``."""
    replicas_file: Path | None = None
    """A YAML list of the same, read again when it changes."""
    dns: list[DnsConfig] = Field(default_factory=list)
    models: dict[str, PromptConfig] = Field(default_factory=dict)
    """By served model name; ``*`` stands for all others."""
    profiles: dict[str, ProfileConfig] = Field(default_factory=dict)
    """Added to the shipped ones; a profile named ``default`` replaces the default."""
    default_profile: str = "default"
    engine: EngineConfig = EngineConfig()
    limits: LimitsConfig = LimitsConfig()
    router: CoreConfig = CoreConfig()


def load_config(path: Path) -> WeftConfig:
    """Reads a configuration file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    return parse_config({} if content is None else content, str(path))


def parse_config(content: object, source: str) -> WeftConfig:
    """Checks parsed YAML; ``source`` is named in errors. Raises ConfigError."""
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: must be a mapping of keys such as `listen` and `replicas`")
    try:
        return WeftConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(source, each) for each in error.errors())) from error


def _describe(source: str, error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(top level)"
    message = str(error["msg"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        message = f"unknown key; allowed here: {', '.join(_allowed(error['loc']))}"
    return f"{source}: {key}: {message}"


def _allowed(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section that holds the last element of ``location``."""
    section: Any = WeftConfig
    for part in location[:-1]:
        if isinstance(section, type) and issubclass(section, BaseModel):
            section = section.model_fields[str(part)].annotation
        else:
            section = section.__args__[-1]
    if is_dataclass(section):
        return sorted(each.name for each in fields(section))
    return sorted(section.model_fields)
