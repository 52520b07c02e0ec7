"""Real vLLM replicas: processes of the environment that prepare.sh makes."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

HOME = Path(os.environ.get("WEFT_REAL") or Path.home() / ".cache" / "weft-real")
VLLM = HOME / "venv" / "bin" / "vllm"
BLOCK_SIZE_TOKENS = 16
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 20.0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def model_directory(name: str) -> Path:
    return HOME / "models" / name


def is_prepared() -> bool:
    """All that prepare.sh installs and makes is there."""
    models = all((model_directory(name) / ".made").is_file() for name in ("tiny", "small", "medium"))
    return models and VLLM.is_file() and any(VLLM.parent.parent.glob("lib/python*/site-packages/nixl"))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass(slots=True)
class Replica:
    """One vLLM server on ports of its own, which it keeps when it is started again."""

    model: str
    """Directory under models/, and the served name."""
    blocks: int
    """KV cache, vLLM's own null block included."""
    max_model_len_tokens: int
    log: Path
    options: tuple[str, ...] = ()
    """Further ones of ``vllm serve``; they go before those set here."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those that every replica gets."""
    role: str = "both"
    """What the router is told that it is for."""
    port: int = 0
    _events_port: int = 0
    _replay_port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _output: list[IO[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port, self._events_port, self._replay_port = free_ports(3)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """As ``weft serve --replica`` takes it."""
        return f"{self.url},role={self.role}"

    @property
    def is_started(self) -> bool:
        return self._process is not None

    @property
    def name(self) -> str:
        """What the router calls it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns at once; ``wait_until_ready`` follows."""
        output = self.log.open("ab")
        self._output.append(output)
        self._process = subprocess.Popen(
            self._command(),
            env=_environment() | dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )

    def wait_until_ready(self) -> None:
        """Raises RuntimeError with the end of the log when the server does not come up."""
        end_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end_s:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"vLLM did not start:\n{self._log_end()}")
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.25)
        raise RuntimeError(f"vLLM is not ready after {START_TIMEOUT_S:g} s:\n{self._log_end()}")

    def kill(self) -> None:
        """SIGKILL to server and engine: nothing is said to anyone."""
        self._signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        end_s = time.monotonic() + STOP_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < end_s:
            time.sleep(0.1)
        self.kill()

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in self._get("/metrics").splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(each in line for each in wanted))

    def answering(self) -> int:
        """Requests that its server has taken, with ``--enable-server-load-tracking``. A paused engine's metrics stand
        still; this does not."""
        return int(json.loads(self._get("/load"))["server_load"])

    def empty_cache(self) -> None:
        """Has the cache emptied, and one step computed: vLLM publishes the one together with the other."""
        self.reset_prefix_cache()
        self.step()

    def reset_prefix_cache(self) -> None:
        """Raises RuntimeError when requests are using blocks: vLLM then leaves everything as it is."""
        answer = self._post("/reset_prefix_cache", None)
        if answer and not json.loads(answer).get("success", True):
            raise RuntimeError(f"{self.name}: blocks are in use, the cache was not reset")

    def pause(self) -> None:
        """Nothing is scheduled any more: requests queue up until ``resume``."""
        self._post("/pause?mode=keep&clear_cache=false", None)

    def resume(self) -> None:
        self._post("/resume", None)

    def step(self) -> None:
        """Computes one token for a prompt that fills no block."""
        self._post("/v1/completions", {"model": self.model, "prompt": [100], "max_tokens": 1})

    def _post(self, path: str, body: object) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method="POST")
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: bytes = response.read()
            return answer

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return response.read().decode()

    def _command(self) -> list[str]:
        events = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"tcp://*:{self._events_port}",
            "replay_endpoint": f"tcp://*:{self._replay_port}",
            "topic": "kv-events",
        }
        options = {
            "--served-model-name": self.model,
            "--host": "127.0.0.1",
            "--port": self.port,
            "--dtype": "bfloat16",
            "--max-model-len": self.max_model_len_tokens,
            "--max-num-seqs": 32,
            "--block-size": BLOCK_SIZE_TOKENS,
            "--num-gpu-blocks-override": self.blocks,
            "--kv-events-config": json.dumps(events),
            "--tool-call-parser": "hermes",
        }
        flags = ["--enforce-eager", "--enable-prefix-caching", "--enable-prompt-tokens-details"]
        flags += ["--enable-auto-tool-choice"]
        named = [str(word) for option in options.items() for word in option]
        return [str(VLLM), "serve", str(model_directory(self.model)), *flags, *named, *self.options]

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        while self._output:
            self._output.pop().close()

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def _environment() -> dict[str, str]:
    """No PYTHONHASHSEED: how a replica seeds its block hashes must not matter."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    return inherited | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def end_with_parent() -> None:
    """A test run that is killed must not leave servers behind."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def running(replicas: list[Replica]) -> Iterator[list[Replica]]:
    """Starts all of them at once; stops them whatever happens."""
    try:
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.wait_until_ready()
        yield replicas
    finally:
        for replica in replicas:
            replica.stop()
