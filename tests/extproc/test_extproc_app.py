"""`weft serve --extproc`, whole: simulated replicas, and a gateway that carries the bytes as Envoy would."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
import pytest
from extproc_rig import Gateway, chat, log_entry, log_message, until, within

from router.app import App
from router.config import parse_config
from router.extproc.threads import NICENESS
from sim.engine import load_profile
from sim.replica.serving import serve_replicas
from sim.replica.settings import Settings


@asynccontextmanager
async def world(count=2, **config):
    """A gateway, a client for replicas and for Weft, and Weft itself."""
    settings = Settings(engine=load_profile("laptop-demo").engine, model="m", speed=50.0)
    async with serve_replicas(count, settings) as replicas:
        chosen = {
            "listen": "127.0.0.1:0",
            "extproc": {"listen": "127.0.0.1:0"},
            "replicas": [replica.url for replica in replicas],
            "models": {"*": {"tokenizer": "text"}},
            "engine": {"metrics_interval_s": 0.1, "health_interval_s": 0.2},
        }
        async with App(parse_config(chosen | config, "test")) as app, aiohttp.ClientSession() as client:
            await until(lambda: app.router.fleet.routable.sum() == count)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{app.picking.server.port}") as channel:
                yield Gateway(None, channel), client, app


async def carry(client, told, body):
    """What Envoy does with a decided request."""
    async with client.post(f"http://{told.endpoint}/v1/chat/completions", json=json.loads(body)) as answer:
        return answer.status, await answer.json()


async def test_requests_go_where_their_prefix_is_and_the_log_ends_them():
    async with world(3) as (gateway, client, app):
        log = gateway.open_log()
        text = "the same system prompt each time " * 50
        chosen = set()
        for turn in range(4):
            body = chat(f"{text}{turn}", max_tokens=2)
            told = await gateway.post(body, {"x-request-id": str(turn)})
            status, _ = await carry(client, told, body)
            assert status == 200
            await log.write(log_message(log_entry(str(turn), endpoint=told.endpoint)))
            chosen.add(told.endpoint)
        assert len(chosen) == 1
        await until(lambda: app.router.in_flight == 0)


async def test_without_a_log_the_replicas_metrics_end_them():
    async with world(1) as (gateway, client, app):
        body = chat(max_tokens=2)
        await carry(client, await gateway.post(body), body)
        assert app.router.in_flight == 1
        app.picking._ends._clock = lambda: asyncio.get_running_loop().time() + 60.0
        await until(lambda: app.router.in_flight == 0)


async def test_proxy_and_picker_share_one_state():
    async with world(2) as (gateway, client, app):
        text = "one prompt through the proxy and through Envoy " * 40
        url = f"http://127.0.0.1:{app.listener.port}"
        async with client.post(f"{url}/v1/chat/completions", json=json.loads(chat(text, max_tokens=2))) as answer:
            first = answer.headers["x-weft-replica"]
        assert (await gateway.post(chat(text))).endpoint == first
        async with client.get(f"{url}/metrics") as answer:
            metrics = await answer.text()
        assert "weft_extproc_requests_sent_total 1.0" in metrics


async def test_the_picker_can_stand_alone():
    async with world(1, listen="none") as (gateway, _, app):
        assert (await gateway.post()).endpoint
        assert app.listener.port == 0


def threads_of(pid):
    """The main one first."""
    return sorted(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())


async def test_the_command_serves_until_it_is_told_to_stop():
    listening = "import sys; from router.cli import main; main(sys.argv[1:])"
    options = ["serve", "--listen", "none", "--extproc", "127.0.0.1:0", "--replica", "http://127.0.0.1:9"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", listening, *options, stderr=asyncio.subprocess.PIPE
    )
    try:
        while b"ext-proc listens" not in (line := await within(process.stderr.readline())):
            assert line, "the command has ended"
        if sys.platform == "linux":
            threads = threads_of(process.pid)
            assert {os.sched_getscheduler(each) for each in threads} == {os.SCHED_BATCH}, "they interrupt nobody"
            first, *others = [os.getpriority(os.PRIO_PROCESS, each) for each in threads]
            assert first == os.getpriority(os.PRIO_PROCESS, 0), "the event loop has its priority"
            assert NICENESS in others, "gRPC's threads stay behind it"
        process.send_signal(signal.SIGTERM)
        assert await within(process.wait()) == 0
        assert b"Traceback" not in await process.stderr.read()
    finally:
        if process.returncode is None:
            process.kill()


@pytest.mark.parametrize("wrong", ["nonsense", "127.0.0.1:99999"])
async def test_an_address_that_cannot_be_used_is_a_configuration_error(wrong):
    with pytest.raises(Exception, match="extproc"):
        async with world(1, extproc={"listen": wrong}):
            pass
