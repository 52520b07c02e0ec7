"""``weft sim-replicas``."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys

import aiohttp
import pytest
from click.testing import CliRunner

from sim.cli import command
from sim.engine import Policy
from sim.replica.kv_messages import EventForm


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "h900"], "no engine profile 'h900'"),
        (["--count", "0"], "--count"),
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
