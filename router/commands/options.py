"""The options that `serve` and `check` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from router.config import ConfigError, KubernetesConfig, WeftConfig, load_config, parse_config

Command = Callable[..., Any]


def serve_options(command: Command) -> Command:
    """Adds the options whose values `configured` takes."""
    for option in (
        click.option("--programs", is_flag=True, help="Schedule whole agent runs: docs/programs.md."),
        click.option("--profile", help="Scheduling profile to use by default."),
        click.option(
            "--tokenizer",
            metavar="DIR|replica|text",
            help="How prompts become tokens: a directory with tokenizer.json and the chat template, the replica's own "
            "/tokenize (the default), or bytes of text.",
        ),
        click.option(
            "--inference-pool",
            "pools",
            multiple=True,
            metavar="[NAMESPACE:]NAME",
            help="The pods of a Kubernetes InferencePool, which names their labels and ports. Repeatable.",
        ),
        click.option(
            "--pods",
            multiple=True,
            metavar="[NAMESPACE:]SELECTOR",
            help="The Kubernetes pods with these labels, e.g. app=vllm, at port 8000. Repeatable.",
        ),
        click.option(
            "--replica",
            "replicas",
            multiple=True,
            metavar="URL[,KEY=VALUE]...",
            help="A vLLM server; keys: events=tcp://H:P, replay=tcp://H:P, role, ranks, model, label.NAME. Repeatable.",
        ),
        click.option("--listen", metavar="HOST:PORT", help="Where to listen; unix:PATH for a socket; none: no proxy."),
        click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="Configuration file."),
    ):
        command = option(command)
    return command


def configured(
    config_file: Path | None,
    listen: str | None,
    replicas: tuple[str, ...],
    tokenizer: str | None,
    profile: str | None,
    pods: tuple[str, ...] = (),
    pools: tuple[str, ...] = (),
    programs: bool = False,
) -> WeftConfig:
    """The file's configuration with the command line's on top. Raises ConfigError."""
    base = load_config(config_file) if config_file else parse_config({}, "command line")
    changes: dict[str, Any] = {}
    if listen:
        changes["listen"] = listen
    if replicas:
        changes["replicas"] = [*base.replicas, *replicas]
    if pods or pools:
        changes["kubernetes"] = [*base.kubernetes, *_in_kubernetes(pods, pools)]
    if profile:
        changes["default_profile"] = profile
    if programs:
        changes["programs"] = base.programs.model_copy(update={"enabled": True})
    if tokenizer:
        changes["models"] = base.models | {"*": _prompts(tokenizer)}
    return base.model_copy(update=changes)


def _in_kubernetes(pods: tuple[str, ...], pools: tuple[str, ...]) -> list[KubernetesConfig]:
    sections = []
    for option, key, values in (("--pods", "selector", pods), ("--inference-pool", "inference_pool", pools)):
        for value in values:
            namespace, _, chosen = value.rpartition(":")
            section = {"kubernetes": [{"namespace": namespace, key: chosen}]}
            sections += parse_config(section, option).kubernetes
    return sections


def _prompts(tokenizer: str) -> Any:
    section = (
        {"tokenizer": tokenizer} if tokenizer in ("replica", "text") else {"tokenizer": "local", "path": tokenizer}
    )
    if section["tokenizer"] == "local" and not Path(tokenizer).is_dir():
        raise ConfigError(f"--tokenizer: {tokenizer!r} is not a directory; allowed: a directory, replica, text")
    return parse_config({"models": {"*": section}}, "--tokenizer").models["*"]
