"""`weft check` on real replicas."""

from __future__ import annotations

import subprocess
import sys

import pytest
from replicas import free_ports, model_directory


def check(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "router.cli", "check", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def named(replicas) -> list[str]:
    return [word for replica in replicas for word in ("--replica", replica.url)]


@pytest.mark.parametrize("tokenizer", [str(model_directory("tiny")), "replica"])
def test_all_is_well(replicas, tokenizer) -> None:
    found = check(*named(replicas), "--tokenizer", tokenizer, "--wait", "20")
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("index synced") == 2
    assert "FAILS" not in found.stdout


def test_another_model_s_tokenizer_is_noticed(replicas, tmp_path) -> None:
    for file in model_directory("tiny").glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    found = check(*named(replicas), "--tokenizer", str(tmp_path), "--wait", "20")
    assert found.returncode == 1, found.stdout + found.stderr
    assert "other token ids" in " ".join(found.stdout.split())


def test_a_replica_that_is_not_there_is_named(replicas) -> None:
    (port,) = free_ports(1)
    found = check(*named(replicas), "--replica", f"http://127.0.0.1:{port}", "--wait", "3")
    assert found.returncode == 1, found.stdout + found.stderr
    assert f"127.0.0.1:{port}" in found.stdout
