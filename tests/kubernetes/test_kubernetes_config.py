"""What may stand under `kubernetes`, the same as flags, and what an error in it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.cli import main
from router.commands.options import configured
from router.config import ConfigError, KubernetesConfig, parse_config


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, ["kubernetes.0", "give either `selector` or `inference_pool`"]),
        ({"selector": "a=b", "inference_pool": "c"}, ["kubernetes.0", "give either"]),
        ({"selectr": "a=b"}, ["kubernetes.0.selectr", "unknown key", "selector"]),
        ({"selector": "a=b", "ports": [0]}, ["kubernetes.0.ports.0", "greater than or equal to 1"]),
        ({"selector": "a=b", "ports": []}, ["kubernetes.0.ports", "at least 1 item"]),
        ({"inference_pool": "a", "ports": [8000]}, ["kubernetes.0", "`ports` are the InferencePool's"]),
        ({"inference_pool": "a", "pool_group": "x"}, ["kubernetes.0.pool_group", "inference.networking.x-k8s.io"]),
        ({"selector": "a=b", "events": "5557"}, ["kubernetes.0", "events", "tcp://HOST:PORT", "auto, on, off"]),
        ({"selector": "a=b", "api": "10.0.0.1:6443"}, ["kubernetes.0.api", "https?://"]),
        ({"selector": "a=b", "token_file": "/token"}, ["kubernetes.0", "need `api`"]),
    ],
)
def test_errors_name_the_key_and_what_is_allowed(section: dict[str, object], said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"kubernetes": [section]}, "weft.yaml")
    for part in ("weft.yaml", *said):
        assert part in str(caught.value)


def test_flags_are_sections() -> None:
    config = configured(None, None, (), None, None, ("llm:app=vllm,tier in (a)", "x/y=z"), ("llm:llama",))
    assert config.kubernetes == [
        KubernetesConfig(namespace="llm", selector="app=vllm,tier in (a)"),
        KubernetesConfig(selector="x/y=z"),
        KubernetesConfig(namespace="llm", inference_pool="llama"),
    ]


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kubernetes: [{selector: a=b}]", "kubernetes.0.api: Weft does not run in a cluster; name the API server"),
        ("kubernetes: [{selector: a=b, api: 'http://127.0.0.1:1'}]", "kubernetes.0.namespace: Weft does not run in"),
    ],
)
def test_outside_a_cluster_it_must_be_named(
    command: str,
    text: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    path = tmp_path / "weft.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main([command, "--listen", "127.0.0.1:0", "-c", str(path)])
    assert ended.value.code == 2
    assert f"{path}: {said}" in capsys.readouterr().err
