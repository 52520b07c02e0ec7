"""`weft serve --envoy`, as users run it: processes of their own."""

import asyncio
import os
import re
import signal
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from envoy_rig import PATH, chat_body, replicas

from router.commands.serve import command
from router.config import ConfigError

PATIENCE_S = 60.0
LISTENS = re.compile(r"envoy listens on (\S+)")


class Served:
    """A process of `weft serve --envoy`, once Envoy serves."""

    def __init__(self, process):
        self.process = process
        self.output = []
        self.url = ""

    async def until_it_says(self, pattern):
        """The match, in a line that it writes from now on."""
        async for line in self.process.stderr:
            self.output.append(line.decode())
            if found := pattern.search(self.output[-1]):
                return found
        raise AssertionError("".join(self.output))

    async def ended(self):
        """(exit status, all that it wrote)."""
        self.output.append((await self.process.stderr.read()).decode())
        return await self.process.wait(), "".join(self.output)

    def envoy(self):
        """The process id of its Envoy."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (found,) = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "envoy"]
        return found


@pytest.fixture
async def world(envoy_binary):
    async with replicas() as serving, aiohttp.ClientSession() as client, served(serving) as running:
        async with asyncio.timeout(PATIENCE_S):
            while await status(client, running.url) != 200:
                await asyncio.sleep(0.05)
            yield running, serving, client


@asynccontextmanager
async def served(serving):
    command = [sys.executable, "-m", "router.cli", "serve", "--listen", "127.0.0.1:0", "--tokenizer", "text"]
    urls = [part for replica in serving for part in ("--replica", replica.url)]
    # A Weft that is killed leaves its directory behind.
    with tempfile.TemporaryDirectory(prefix="weft-test-") as directory:
        environment = os.environ | {"TMPDIR": directory}
        process = await asyncio.create_subprocess_exec(
            *command, "--envoy", "127.0.0.1:0", *urls, stderr=asyncio.subprocess.PIPE, env=environment
        )
        async with ended_after(process):
            running = Served(process)
            running.url = "http://" + (await running.until_it_says(LISTENS))[1]
            yield running


@asynccontextmanager
async def ended_after(process):
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def status(client, url):
    async with client.post(url + PATH, json=chat_body("hello")) as answer:
        await answer.read()
        return answer.status


async def until_logged(client, url):
    """Until Envoy has told the end of every request that was sent to a replica."""
    async with asyncio.timeout(PATIENCE_S):
        while await metric(client, url, "weft_extproc_outstanding"):
            await asyncio.sleep(0.02)


async def metric(client, url, name):
    async with client.get(url + "/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith((name + " ", name + "{")))


async def until_gone(pid):
    async with asyncio.timeout(PATIENCE_S):
        while runs(pid):
            await asyncio.sleep(0.02)


def runs(pid):
    """Whether a process is more than a status that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_envoy_carries_requests_and_ends_with_weft_when_answers_are_complete(world):
    running, _, client = world
    envoy = running.envoy()
    await until_logged(client, running.url)
    unmatched = await metric(client, running.url, "weft_extproc_unmatched_log_entries_total")
    async with client.get(running.url + "/v1/models") as answer:
        assert (await answer.json())["data"][0]["owned_by"] == "weft"
    if sys.platform == "linux":
        assert os.sched_getscheduler(envoy) == os.SCHED_OTHER, "only Weft lets others go first"
    assert await status(client, running.url) == 200
    await until_logged(client, running.url)
    assert await metric(client, running.url, "weft_extproc_unmatched_log_entries_total") == unmatched
    body = chat_body("hello", stream=True, max_tokens=400)
    async with client.post(running.url + PATH, json=body) as answer:
        assert answer.headers["x-weft-replica"].startswith("127.0.0.1:")
        await answer.content.readline()
        running.process.send_signal(signal.SIGTERM)
        await running.until_it_says(re.compile("draining"))
        assert (await answer.read()).endswith(b"data: [DONE]\n\n")
    ended, _ = await running.ended()
    assert ended == 0
    await until_gone(envoy)


async def test_an_envoy_that_dies_takes_weft_along(world):
    running, _, _ = world
    os.kill(running.envoy(), signal.SIGKILL)
    ended, output = await running.ended()
    assert ended == 1
    assert "envoy has ended by itself, status -9" in output


async def test_a_port_that_is_taken_ends_weft_and_a_weft_that_is_killed_leaves_no_envoy(world):
    running, _, _ = world
    address = running.url.removeprefix("http://")
    options = ["--listen", "none", "--envoy", address, "--replica", "http://127.0.0.1:1", "--tokenizer", "text"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router.cli", "serve", *options, stderr=asyncio.subprocess.PIPE
    )
    _, output = await process.communicate()
    assert process.returncode == 1
    assert f"envoy cannot listen on {address}" in output.decode()
    envoy = running.envoy()
    running.process.kill()
    await until_gone(envoy)


def test_without_envoy_there_is_a_message(monkeypatch, tmp_path):
    monkeypatch.setattr("router.envoy.process.PACKAGE", "no-such-package")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="--envoy: Envoy is not installed"):
        command.main(["--envoy", "--replica", "http://127.0.0.1:1"], standalone_mode=False)
