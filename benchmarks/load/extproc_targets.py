"""What the ext-proc benchmark measures: Envoy with Weft, with a do-nothing picker, alone; and the proxy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from load.targets import Target, weft_command

from router.envoy.bootstrap import bootstrap
from router.envoy.process import find_envoy
from router.envoy.settings import EnvoySettings, Fleet

Command = Callable[[int, Sequence[str], Path], list[str]]

_WEFT = Path(sys.executable).with_name("weft")
_MODEL = Path(__file__).resolve().parents[2] / "sim" / "model"
_TEXT = {"tokenizer": "text"}
_LOCAL = {"tokenizer": "local", "path": str(_MODEL)}


def extproc_targets() -> list[Target]:
    """All of them; the router under test is one command each, on one core. Raises EnvoyMissingError."""
    envoy = find_envoy()
    return [
        Target("envoy", envoy, _envoy_alone(envoy)),
        Target("noop", envoy, _noop(envoy)),
        Target("weft-text", _WEFT, _behind_envoy(_TEXT)),
        Target("weft-local", _WEFT, _behind_envoy(_LOCAL)),
        Target("proxy-text", _WEFT, weft_command(_TEXT, "default")),
        Target("proxy-local", _WEFT, weft_command(_LOCAL, "default")),
    ]


def _behind_envoy(prompts: dict[str, str]) -> Command:
    def command(port: int, replicas: Sequence[str], directory: Path) -> list[str]:
        served = weft_command(prompts, "default")(port + 1, replicas, directory)
        return [*served, "--envoy", f"127.0.0.1:{port}"]

    return command


def _envoy_alone(envoy: Path) -> Command:
    """Replicas in turn, nobody asked, nothing logged."""

    def command(port: int, replicas: Sequence[str], directory: Path) -> list[str]:
        content = bootstrap(_settings(port, replicas, directory))
        (listener,) = content["static_resources"]["listeners"]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = manager["http_filters"][1:]
        manager["access_log"] = []
        return _started(envoy, content, directory)

    return command


def _noop(envoy: Path) -> Command:
    def command(port: int, replicas: Sequence[str], directory: Path) -> list[str]:
        settings = _settings(port, replicas, directory)
        started = _started(envoy, bootstrap(settings), directory)
        addresses = [urlsplit(url).netloc for url in replicas]
        server = [sys.executable, str(Path(__file__).with_name("noop_extproc.py")), settings.extproc, *addresses]
        return ["sh", "-c", f"{' '.join(server)} & exec {' '.join(started)}"]

    return command


def _settings(port: int, replicas: Sequence[str], directory: Path) -> EnvoySettings:
    """As `weft serve --envoy` has them."""
    socket = f"unix:{directory / 'noop.sock'}"
    return EnvoySettings(
        listen=f"127.0.0.1:{port}", extproc=socket, fleet=Fleet(replicas=tuple(replicas)), health_checks=False
    )


def _started(envoy: Path, content: object, directory: Path) -> list[str]:
    path = directory / "envoy.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return [str(envoy), "-c", str(path), "--log-level", "warn", "--disable-hot-restart", "--concurrency", "1"]
