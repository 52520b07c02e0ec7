"""The options that `serve` and `check` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from router.config import ConfigError, WeftConfig, load_config, parse_config

Command = Callable[..., Any]


def serve_options(command: Command) -> Command:
    """Adds ``-c``, ``--listen``, ``--replica``, ``--tokenizer`` and ``--profile``."""
    for option in (
        click.option("--profile", help="Scheduling profile to use by default."),
        click.option(
            "--tokenizer",
            metavar="DIR|replica|text",
            help="How prompts become tokens: a directory with tokenizer.json and the chat template, the replica's own "
            "/tokenize (the default), or bytes of text.",
        ),
        click.option(
            "--replica",
            "replicas",
            multiple=True,
            metavar="URL[,KEY=VALUE]...",
            help="A vLLM server; keys: events=tcp://H:P, replay=tcp://H:P, role, ranks, model, label.NAME. Repeatable.",
        ),
        click.option("--listen", metavar="HOST:PORT", help="Where to listen; unix:PATH for a socket."),
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
) -> WeftConfig:
    """The file's configuration with the command line's on top. Raises ConfigError."""
    base = load_config(config_file) if config_file else parse_config({}, "command line")
    changes: dict[str, Any] = {}
    if listen:
        changes["listen"] = listen
    if replicas:
        changes["replicas"] = [*base.replicas, *replicas]
    if profile:
        changes["default_profile"] = profile
    if tokenizer:
        changes["models"] = base.models | {"*": _prompts(tokenizer)}
    return base.model_copy(update=changes)


def _prompts(tokenizer: str) -> Any:
    section = (
        {"tokenizer": tokenizer} if tokenizer in ("replica", "text") else {"tokenizer": "local", "path": tokenizer}
    )
    if section["tokenizer"] == "local" and not Path(tokenizer).is_dir():
        raise ConfigError(f"--tokenizer: {tokenizer!r} is not a directory; allowed: a directory, replica, text")
    return parse_config({"models": {"*": section}}, "--tokenizer").models["*"]
