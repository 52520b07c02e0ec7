"""Engine profiles: YAML files that say how large and how fast a replica is, and where the figures come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sim.engine.config import EngineConfig, Policy
from sim.engine.frontend import Frontend
from sim.engine.step_time import StepTime

PROFILES = Path(__file__).parent.parent / "profiles"


@dataclass(slots=True, frozen=True)
class Profile:
    name: str
    model: str
    """Name under which the replica serves its model unless told otherwise."""
    description: str
    source: str
    engine: EngineConfig
    kv_bytes_per_token: int | None = None
    """Keys and values of one token in all layers; None where the profile does not say."""


class _StepTime(BaseModel):
    model_config = ConfigDict(extra="forbid")

    fixed_us: float = Field(gt=0)
    prefill_token_us: float = Field(ge=0)
    attention_pair_ns: float = Field(ge=0)
    decode_seq_us: float = Field(ge=0)
    context_token_ns: float = Field(ge=0)


class _Frontend(BaseModel):
    model_config = ConfigDict(extra="forbid")

    request_us: float = Field(default=0.0, ge=0)
    prompt_token_ns: float = Field(default=0.0, ge=0)


class _Profile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str
    description: str
    source: str
    block_size_tokens: int
    num_blocks: int
    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len_tokens: int
    step_time: _StepTime
    kv_bytes_per_token: int | None = Field(default=None, gt=0)
    frontend: _Frontend = _Frontend()


def profile_names() -> list[str]:
    """Profiles that come with the package."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(name_or_path: str) -> Profile:
    """Read a profile by its name, or from a YAML file. Raises ValueError when it is unknown or malformed."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = PROFILES / f"{name_or_path}.yaml"
    if not path.is_file():
        raise ValueError(
            f"no engine profile {name_or_path!r}: give the path of a YAML file or one of {', '.join(profile_names())}"
        )
    try:
        read = _Profile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        return Profile(
            path.stem, read.model, read.description, read.source, _engine_config(read), read.kv_bytes_per_token
        )
    except (yaml.YAMLError, ValidationError, ValueError) as error:
        raise ValueError(f"engine profile {path}: {error}") from error


def _engine_config(read: _Profile) -> EngineConfig:
    times = read.step_time
    return EngineConfig(
        step_time=StepTime(
            fixed_ps=round(times.fixed_us * 1e6),
            prefill_token_ps=round(times.prefill_token_us * 1e6),
            attention_pair_ps=round(times.attention_pair_ns * 1e3),
            decode_seq_ps=round(times.decode_seq_us * 1e6),
            context_token_ps=round(times.context_token_ns * 1e3),
        ),
        num_blocks=read.num_blocks,
        block_size_tokens=read.block_size_tokens,
        max_num_batched_tokens=read.max_num_batched_tokens,
        max_num_seqs=read.max_num_seqs,
        max_model_len_tokens=read.max_model_len_tokens,
        policy=Policy.FCFS,
        frontend=Frontend(
            request_ps=round(read.frontend.request_us * 1e6),
            prompt_token_ps=round(read.frontend.prompt_token_ns * 1e3),
        ),
    )
