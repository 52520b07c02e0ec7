"""What is measured: Weft in four settings, its peers where they are installed, and no router at all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

MODEL = "fake-model"
_TOKENIZER = Path(__file__).resolve().parents[2] / "sim" / "model"


@dataclass(slots=True, frozen=True)
class Target:
    """One router to measure.

    ``command`` makes its command line from its port (the next one is free too), the replicas' URLs and a directory.
    """

    name: str
    program: Path | None = None
    """What must exist for it to run; None: requests go to a replica directly."""
    command: Callable[[int, Sequence[str], Path], list[str]] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    version: str = ""


def all_targets(peers: Path) -> list[Target]:
    """Every target, installed or not; peers are looked for in ``peers/<name>/venv``."""
    weft = Path(sys.executable).with_name("weft")
    return [
        Target("direct"),
        Target("weft-round-robin", weft, weft_command({"tokenizer": "text"}, "round-robin")),
        Target("weft-text", weft, weft_command({"tokenizer": "text"}, "default")),
        Target("weft-programs", weft, weft_command({"tokenizer": "text"}, "default", {"enabled": True})),
        Target("weft-local", weft, weft_command({"tokenizer": "local", "path": str(_TOKENIZER)}, "default")),
        _rust_router(peers, "sglang-router", "cache_aware", ["launch"], "warn"),
        _rust_router(peers, "sglang-router", "round_robin", ["launch"], "warn"),
        _rust_router(peers, "smg", "cache_aware", ["launch"], "warn"),
        _rust_router(peers, "smg", "round_robin", ["launch"], "warn"),
        _rust_router(peers, "vllm-router", "cache_aware", [], "warning"),
        _rust_router(peers, "vllm-router", "round_robin", [], "warning"),
        _litellm(peers),
    ]


def weft_command(
    prompts: dict[str, str], profile: str, programs: dict[str, bool] | None = None
) -> Callable[[int, Sequence[str], Path], list[str]]:
    """Weft as a proxy with these prompts and this profile."""

    def command(port: int, replicas: Sequence[str], directory: Path) -> list[str]:
        config = directory / "weft.yaml"
        content = {"models": {"*": prompts}, "default_profile": profile, "programs": programs or {}}
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        weft = str(Path(sys.executable).with_name("weft"))
        urls = [argument for url in replicas for argument in ("--replica", url)]
        return [weft, "serve", "-c", str(config), "--listen", f"127.0.0.1:{port}", *urls]

    return command


def _rust_router(peers: Path, name: str, policy: str, verb: list[str], log_level: str) -> Target:
    """The three routers of one family: they share their options."""
    program = peers / name / "venv" / "bin" / name

    def command(port: int, replicas: Sequence[str], _: Path) -> list[str]:
        listen = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(port + 1)]
        return [str(program), *verb, *listen, "--worker-urls", *replicas, "--policy", policy, "--log-level", log_level]

    suffix = "" if policy == "cache_aware" else f"-{policy.replace('_', '-')}"
    return Target(name + suffix, program, command, version=_version(peers, name))


def _litellm(peers: Path) -> Target:
    program = peers / "litellm" / "venv" / "bin" / "litellm"

    def command(port: int, replicas: Sequence[str], directory: Path) -> list[str]:
        parameters = [{"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"} for url in replicas]
        config = {
            "model_list": [{"model_name": MODEL, "litellm_params": each} for each in parameters],
            "router_settings": {"routing_strategy": "simple-shuffle", "num_retries": 0},
        }
        path = directory / "litellm.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]

    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_TELEMETRY": "False",
        # It listens on 127.0.0.1 for a few minutes, before replicas that hold nothing.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    return Target("litellm", program, command, environment, _version(peers, "litellm"))


def _version(peers: Path, name: str) -> str:
    packages = (peers / name / "venv").glob(f"lib/python*/site-packages/{name.replace('-', '_')}-*.dist-info")
    return next((path.name.removesuffix(".dist-info").rpartition("-")[2] for path in packages), "")
