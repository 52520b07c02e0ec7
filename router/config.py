"""The configuration file: what may stand in ``weft.yaml``, and what an error in it says.

Every key has a default; an unknown key, a wrong type or a value out of range is an error that names the file, the key,
what is wrong and what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from re import fullmatch
from types import UnionType
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

from router.core.disaggregation.topology import LABELS
from router.core.router import RouterSettings
from router.engine.discovery.address import make_address
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
    filters: list[str] = Field(default_factory=lambda: ["healthy", "model", "lora", "decodes", "subset"])
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


class KubernetesConfig(_Section):
    """Pods as replicas: those of a label selector, or of an InferencePool."""

    namespace: str = ""
    """Empty: Weft's own."""
    selector: str = ""
    """As kubectl takes it: ``app=vllm,tier in (gpu)``."""
    inference_pool: str = ""
    """The name of one; it names the pods and their ports."""
    pool_group: Literal["inference.networking.k8s.io", "inference.networking.x-k8s.io"] = "inference.networking.k8s.io"
    ports: tuple[Annotated[int, Field(ge=1, le=65535)] | str, ...] = Field((8000,), min_length=1)
    """Numbers, or names of container ports."""
    scheme: Literal["http", "https"] = "http"
    events: str = "auto"
    """As in a replica's options, as is ``replay``."""
    replay: str = ""
    labels: list[str] = Field(default_factory=list)
    """The pod labels that replicas get as labels."""
    api: str = Field("", pattern=r"^($|https?://)")
    """Of the API server. Empty: of the cluster that Weft runs in, with its service account's token and CA."""
    token_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _one_kind_of_pods(self) -> KubernetesConfig:
        if bool(self.selector) == bool(self.inference_pool):
            raise ValueError("give either `selector` or `inference_pool`")
        if self.inference_pool and "ports" in self.model_fields_set:
            raise ValueError("`ports` are the InferencePool's; allowed only with `selector`")
        if not self.api and (self.token_file or self.ca_file):
            raise ValueError("`token_file` and `ca_file` need `api`; without it the service account's are used")
        make_address("http://pod", {"events": self.events, "replay": self.replay})
        return self


class EngineConfig(_Section):
    """How Weft watches its replicas."""

    metrics_interval_s: float = Field(default=1.0, gt=0.0)
    health_interval_s: float = Field(default=5.0, gt=0.0)


class PartConfig(_Section):
    """An order, a gate, an admission or a rule: its name, or its name and parameters."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _only_a_name(cls, content: Any) -> Any:
        return {"name": content} if isinstance(content, str) else content


class QueueConfig(_Section):
    """Who waits in the router, and who goes first."""

    order: PartConfig | None = None
    """A shipped order, an entry point of ``weft.orders``, or ``module:Class``. None: see `router.queueing`."""
    gate: PartConfig | None = None
    admission: PartConfig | None = None
    max_waiting: int | None = Field(default=4096, ge=0)
    """One more is refused with 503."""
    max_waiting_per_tenant: int | None = Field(default=None, ge=0)
    """One more is refused with 429."""
    max_wait_s: float | None = Field(default=300.0, gt=0.0)
    """Who has waited that long is refused with 503."""


class DisaggregationConfig(_Section):
    """Whether prompts are computed on one replica and answered by another, in a fleet whose replicas have roles."""

    enabled: bool = True
    """Without replicas of role ``prefill`` or ``decode`` nothing changes."""
    among_equals: bool = False
    """Also where every replica is ``both``: all of them must have been started with the connector."""
    rule: PartConfig = PartConfig(name="predicted-cost")
    profile: str = "prefill"
    """Picks the prefill replica."""
    connector: Literal["nixl", "mooncake", "sglang", "shared-storage"] = "nixl"
    """How the replicas hand KV blocks over."""
    max_prefills: int = Field(default=2, ge=1, le=16)
    """Prefill replicas that are tried before the decode replica computes the prompt itself."""
    kv_bytes_per_token: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """By base model; ``*`` stands for all others."""
    labels: tuple[str, str, str] = LABELS
    """Replica labels that tell node, rack and zone."""


class BudgetConfig(_Section):
    """What one program may use. None: no bound."""

    max_tokens: int | None = Field(default=None, ge=1)
    max_wall_s: float | None = Field(default=None, gt=0.0)
    max_calls: int | None = Field(default=None, ge=1)
    max_open_calls: int | None = Field(default=None, ge=1)


class WarmUpConfig(_Section):
    """Whether prefixes of programs in tool waits are put back into idle replicas' caches, and how often."""

    enabled: bool = False
    ahead_s: float = Field(default=10.0, gt=0.0)
    """How long before its program is expected back."""
    least_tokens: int = Field(default=1024, ge=1)
    """Of the prompt, that no replica holds."""
    most_running: int = Field(default=0, ge=0)
    """Requests that a replica may be answering meanwhile."""
    max_in_flight: int = Field(default=1, ge=1)
    max_per_minute: int = Field(default=60, ge=1)
    max_kept: int = Field(default=1024, ge=1)
    """Programs whose last call is kept, to be sent once more."""
    max_kept_bytes: int = Field(default=256 << 20, ge=1 << 20)


class ProgramsConfig(_Section):
    """Whether and how far programs are followed."""

    enabled: bool = False
    """What it costs: docs/programs.md, "How a program is followed"."""
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
    warm_up: WarmUpConfig = WarmUpConfig()


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


class TlsConfig(_Section):
    """PEM files, read again when they change."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """Set: who connects must show a certificate that it signed."""


class ExtProcConfig(_Section):
    """Weft as the endpoint picker of an Envoy."""

    listen: str = ""
    """``host:port`` or ``unix:path`` for gRPC: ext-proc, access log, health and reflection. Empty: none."""
    tls: TlsConfig | None = None
    request_body_mode: Literal["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED", "NONE"] = "FULL_DUPLEX_STREAMED"
    """How bodies come from a gateway that does not say it, as Envoy before 1.33."""
    responses: Literal["skip", "follow"] = "skip"
    """Whether answers come by here. It costs CPU for each of their pieces, and nothing needs it."""
    fallbacks: int = Field(default=0, ge=0, le=16)
    """Endpoints named behind the chosen one, for gateways that try them in turn."""
    objectives: dict[str, int] = Field(default_factory=dict)
    """Priority by the name in ``x-llm-d-inference-objective``; higher is more urgent."""
    conformance: bool = False
    """Heed the headers of the Gateway API's conformance tests: clients then choose endpoints."""


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
    """Where the proxy, the metrics and the API of programs are; ``none``: nowhere."""
    extproc: ExtProcConfig = ExtProcConfig()
    replicas: list[str] = Field(default_factory=list)
    """Replicas as on the command line: ``http://host:8000,events=tcp://host:5557``."""
    replicas_file: Path | None = None
    """A YAML list of the same, read again when it changes."""
    dns: list[DnsConfig] = Field(default_factory=list)
    kubernetes: list[KubernetesConfig] = Field(default_factory=list)
    models: dict[str, PromptConfig] = Field(default_factory=dict)
    """By served model name; ``*`` stands for all others."""
    profiles: dict[str, ProfileConfig] = Field(default_factory=dict)
    """Added to the shipped ones; a profile named ``default`` replaces the default."""
    default_profile: str = "default"
    queue: QueueConfig = QueueConfig()
    programs: ProgramsConfig = ProgramsConfig()
    disaggregation: DisaggregationConfig = DisaggregationConfig()
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


def _without_none(annotation: Any) -> Any:
    return annotation.__args__[0] if isinstance(annotation, UnionType) else annotation


def _allowed(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section that holds the last element of ``location``."""
    section: Any = WeftConfig
    for part in location[:-1]:
        if isinstance(section, type) and issubclass(section, BaseModel):
            section = _without_none(section.model_fields[str(part)].annotation)
        else:
            section = section.__args__[-1]
    if is_dataclass(section):
        return sorted(each.name for each in fields(section))
    return sorted(section.model_fields)
