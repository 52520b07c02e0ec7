"""The configuration file: what may stand in ``weft.yaml``, and what an error in it says.

Every key has a default; an unknown key, a wrong type or a value out of range is an error that names the file, the key,
what is wrong and what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from re import fullmatch
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
    with_config,
)

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


class PartConfig(_Section):
    """An order, a gate or an admission: its name, or its name and parameters."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _only_a_name(cls, content: Any) -> Any:
        return {"name": content} if isinstance(content, str) else content


class QueueConfig(_Section):
    """Who waits in the router, and who goes first."""

    order: PartConfig = PartConfig(name="fcfs")
    """A shipped order, an entry point of ``weft.orders``, or ``module:Class``."""
    gate: PartConfig = PartConfig(name="none")
    admission: PartConfig = PartConfig(name="none")
    max_waiting: int | None = Field(default=4096, ge=0)
    """One more is refused with 503."""
    max_waiting_per_tenant: int | None = Field(default=None, ge=0)
    """One more is refused with 429."""
    max_wait_s: float | None = Field(default=300.0, gt=0.0)
    """Who has waited that long is refused with 503."""


class BudgetConfig(_Section):
    """What one program may use. None: no bound."""

    max_tokens: int | None = Field(default=None, ge=1)
    max_wall_s: float | None = Field(default=None, gt=0.0)
    max_calls: int | None = Field(default=None, ge=1)
    max_open_calls: int | None = Field(default=None, ge=1)


class ProgramsConfig(_Section):
    """Whether and how far programs are followed."""

    enabled: bool = False
    """Costs some 50 us of CPU for each request, and 30 more where nothing names the program."""
    max_programs: int = Field(default=20_000, ge=1)
    """Also what bounds the pauses of Python's collector of cycles, which looks at all of them now and then."""
    max_steps: int = Field(default=4096, ge=1)
    """Of one program."""
    max_bytes: int = Field(default=256 << 20, ge=1 << 20)
    """Estimated; what is inferred from prompts may take half as much again."""
    idle_s: float = Field(default=3600.0, gt=0.0)
    """A program without calls is forgotten after this."""
    linger_s: float = Field(default=60.0, ge=0.0)
    """A finished program can be looked at for so long."""
    lineage: bool = True
    """Calls that nobody named are placed by their prompts."""
    budget: BudgetConfig = BudgetConfig()
    class_budgets: dict[str, BudgetConfig] = Field(default_factory=dict)
    """By the class that clients name: it can only lower what the tenant may use."""
    repeat_limit: int | None = Field(default=None, ge=1)
    """How often in a row a program may send the same prompt again."""


def _header_name(text: str) -> str:
    if text and not fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise ValueError(f"{text!r} is not the name of a header, allowed: letters, digits and -")
    return text.lower()


_HeaderName = Annotated[str, AfterValidator(_header_name)]


class IdentityConfig(_Section):
    """Who vouches for a tenant, and how far clients are believed."""

    tenant_header: _HeaderName = ""
    """A header that only your own gateway can set. Empty: none."""
    tenant_from_key: bool = True
    """Requests with different API keys come from different tenants."""
    program_headers: list[_HeaderName] = Field(default_factory=list)
    """More headers that name a program."""
    max_priority: int = Field(default=0, ge=0)
    """How urgent a client may call its own program."""


class TenantConfig(_Section):
    """What differs for one tenant. None: nothing."""

    max_priority: int | None = Field(default=None, ge=0)
    max_waiting: int | None = Field(default=None, ge=0)
    weight: float | None = Field(default=None, gt=0.0)
    """Its share, for an order that weighs tenants."""
    program_budget: BudgetConfig = BudgetConfig()
    """What it sets goes before ``programs.budget``."""


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
    queue: QueueConfig = QueueConfig()
    programs: ProgramsConfig = ProgramsConfig()
    identity: IdentityConfig = IdentityConfig()
    tenants: dict[str, TenantConfig] = Field(default_factory=dict)
    """By the tenant header's value, or ``key-`` and the hash of an API key."""
    engine: EngineConfig = EngineConfig()
    limits: LimitsConfig = LimitsConfig()
    router: CoreConfig = CoreConfig()
    _source: str = PrivateAttr(default="configuration")

    @property
    def source(self) -> str:
        """Where it came from, for errors."""
        return self._source


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
        config = WeftConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(source, each) for each in error.errors())) from error
    config._source = source
    return config


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
