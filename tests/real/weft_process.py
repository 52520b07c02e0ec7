"""`weft serve` as users run it: a process of its own in front of replicas."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families
from replicas import Replica, end_with_parent, free_ports

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class Weft:
    """``with Weft(replicas, log, "--tokenizer", directory) as weft:`` it has learned all of them then."""

    def __init__(
        self, replicas: Sequence[Replica], log: Path, *options: str, config: dict[str, Any] | None = None
    ) -> None:
        """``config``: what the configuration file says, when there is to be one."""
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.replicas = list(replicas)
        self._log = log
        self._command = [sys.executable, "-m", "router.cli", "serve", "--listen", f"127.0.0.1:{port}", *options]
        for replica in replicas:
            self._command += ["--replica", replica.address]
        if config:
            file = log.with_suffix(".yaml")
            file.write_text(yaml.safe_dump(config), encoding="utf-8")
            self._command += ["--config", str(file)]
        self._process: subprocess.Popen[bytes] | None = None
        self.ready_after_s = 0.0
        """From its start until it knew all that the replicas hold."""

    def __enter__(self) -> Weft:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, preexec_fn=end_with_parent)
        try:
            self.ready_after_s = self.wait_until(self.knows_all, START_TIMEOUT_S)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> float:
        """Polls; returns the seconds that it took. Raises TimeoutError with the end of the log."""
        began_s = time.monotonic()
        while time.monotonic() < began_s + timeout_s:
            if condition():
                return time.monotonic() - began_s
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise TimeoutError(f"{condition} did not come about:\n{self._log.read_text(errors='replace')[-3000:]}")

    def knows_all(self) -> bool:
        """Every replica is healthy and every event that it published has been applied."""
        return all(self.health(each) == "healthy" and self.index_state(each) == "synced" for each in self.replicas)

    def health(self, replica: Replica) -> str:
        return self.ready().get(replica.name, "")

    def ready(self) -> dict[str, str]:
        """Health by replica, as /ready says."""
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=5) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        except OSError:
            return {}
        replicas: dict[str, str] = json.loads(body)["replicas"]
        return replicas

    def index_state(self, replica: Replica) -> str:
        states = self.samples("weft_replica_index_state", replica=replica.name)
        return next((labels["state"] for labels, value in states if value), "")

    def index_blocks(self, replica: Replica) -> int:
        """Blocks that the replica is known to hold."""
        return int(self.metric("weft_replica_index_blocks", replica=replica.name))

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name with these labels."""
        return sum(value for _, value in self.samples(name, **labels))

    def samples(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as response:
            text = response.read().decode()
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
