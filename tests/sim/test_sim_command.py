"""``weft sim-replicas``."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
import yaml
from click.testing import CliRunner

from router.core.types import Role
from router.engine.discovery.address import parse_address
from sim.cli import command
from sim.engine import Policy
from sim.engine.profile import PROFILES
from sim.replica.kv_messages import EventForm


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "h900"], "no engine profile 'h900'"),
        (["--count", "0"], "--count"),
        (["--prefill", "0", "--decode", "0", "--count", "0"], "--prefill"),
        (["--decode", "1", "--kv-gbps", "0"], "--kv-gbps"),
        (["--decode", "1", "--kv-load-failure-policy", "hope"], "--kv-load-failure-policy"),
        (["--speed", "0"], "--speed"),
        (["--num-blocks", "1"], "max_model_len_tokens"),
        (["--scheduling-policy", "lifo"], "--scheduling-policy"),
        (["--port", "70000"], "--port"),
    ],
)
def test_wrong_options_end_with_a_message(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_names_are_written_as_vllm_writes_them() -> None:
    context = command.make_context("sim-replicas", ["--scheduling-policy", "priority", "--event-form", "array"])
    assert (context.params["policy"], context.params["event_form"]) == (Policy.PRIORITY, EventForm.ARRAY)


def test_a_profile_that_does_not_say_how_large_kv_is_needs_an_option(tmp_path: Path) -> None:
    profile = yaml.safe_load((PROFILES / "laptop-demo.yaml").read_text())
    del profile["kv_bytes_per_token"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(profile))
    result = CliRunner().invoke(command, ["--profile", str(path), "--decode", "1"])
    assert result.exit_code == 2
    assert "--kv-bytes-per-token" in result.output


def test_a_taken_port_ends_with_a_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["--count", "1", "--no-kv-events", "--port", str(taken.getsockname()[1])]
        result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1
    assert "address already in use" in result.output


async def test_serves_as_told_until_it_is_terminated() -> None:
    arguments = (
        "--count=2 --port=0 --kv-events-port=0 --kv-replay-port=0 --profile=laptop-demo --served-model-name=mine "
        "--num-blocks=65 --block-size=32"
    )
    started = (sys.executable, "-c", "from sim.cli import command; command()", *arguments.split())
    process = await asyncio.create_subprocess_exec(*started, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        async with aiohttp.ClientSession() as session:
            for line in lines:
                match = re.fullmatch(r"(http://127\.0\.0\.1:\d+)  mine  KV events \d+, replay \d+\n", line)
                assert match, line
                async with session.get(f"{match[1]}/v1/models") as response:
                    (card,) = (await response.json())["data"]
                assert (card["id"], card["max_model_len"]) == ("mine", 64 * 32)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_replicas_for_either_leg_are_told_as_the_router_takes_them() -> None:
    arguments = (
        "--prefill=1 --decode=1 --port=0 --no-kv-events --side-channel-port=0 --profile=laptop-demo --speed=20 "
        "--kv-lease=5 --kv-load-failure-policy=recompute --kv-latency-ms=0 --kv-gbps=400"
    )
    started = (sys.executable, "-c", "from sim.cli import command; command()", *arguments.split())
    process = await asyncio.create_subprocess_exec(*started, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        prefill, decode = (parse_address(line.split()[0]) for line in lines)
        assert (prefill.role, decode.role) == (Role.PREFILL, Role.DECODE)

        first = {"prompt": "hello", "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
        async with session.post(f"{prefill.url}/v1/completions", json=first) as response:
            params = (await response.json())["kv_transfer_params"]
        second = {"prompt": "hello", "max_tokens": 3, "kv_transfer_params": params}
        async with session.post(f"{decode.url}/v1/completions", json=second) as response:
            assert (await response.json())["usage"]["completion_tokens"] == 3
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
