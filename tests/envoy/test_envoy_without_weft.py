"""What becomes of requests when Weft is killed: an Envoy that needs it answers 503, one that can do without goes on."""

import asyncio
import sys
from contextlib import asynccontextmanager

import aiohttp
import yaml
from envoy_rig import PATH, PATIENCE_S, chat_body, replicas

from sim.replica.faults import Fault, FaultKind


class Processes:
    """A Weft that can be killed, and started again at the same addresses."""

    def __init__(self, envoy, serving, directory, client):
        self.client = client
        self._envoy = envoy
        # A socket's path must be short.
        self._socket = envoy.directory / "weft.sock"
        self._configuration = directory / "weft.yaml"
        config = {
            "listen": f"unix:{self._socket}",
            "extproc": {"listen": envoy.extproc, "fallbacks": 1},
            "replicas": [replica.url for replica in serving],
            "models": {"*": {"tokenizer": "text"}},
            "queue": {"gate": {"name": "all-busy", "parameters": {"threshold": 0.0}}},
        }
        self._configuration.write_text(yaml.safe_dump(config))

    async def start(self):
        command = [sys.executable, "-m", "router.cli", "serve", "-c", str(self._configuration)]
        self.process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        await self.until(lambda said: said["ready"])

    async def kill(self):
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def until(self, holds):
        """Until what Weft says of itself is so."""
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket))) as session,
        ):
            while True:
                try:
                    async with session.get("http://weft/ready") as answer:
                        if holds(await answer.json()):
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.02)

    async def status(self, way, headers=None):
        async with self.client.post(self._envoy.urls[way] + PATH, json=chat_body("hello"), headers=headers) as answer:
            await answer.read()
            return answer.status

    async def statuses(self, headers=None):
        """Of an Envoy that needs Weft, and of one that can do without."""
        return await self.status("buffered", headers), await self.status("open", headers)


@asynccontextmanager
async def processes(envoy, directory):
    async with replicas(1) as serving, aiohttp.ClientSession() as client:
        await envoy.knows([replica.url for replica in serving])
        world = Processes(envoy, serving, directory, client)
        await world.start()
        try:
            yield world, serving[0]
        finally:
            await world.kill()


async def test_a_weft_that_is_killed_and_comes_back(envoy, tmp_path):
    async with processes(envoy, tmp_path) as (weft, replica):
        assert await weft.statuses() == (200, 200)
        await weft.until(lambda said: said["in_flight"] == 0)

        replica.apply(Fault(FaultKind.HANG))
        sent = asyncio.create_task(weft.status("buffered"))
        await weft.until(lambda said: said["in_flight"] == 1)
        held = [asyncio.create_task(weft.status(way)) for way in ("buffered", "open")]
        await weft.until(lambda said: said["waiting"] == 2)
        await weft.kill()
        assert await held[0] == 503
        replica.apply(Fault(FaultKind.NONE))
        assert await held[1] == 200, "it went to a replica without Weft"
        assert await sent == 200, "its answer does not pass through Weft"

        assert await weft.statuses() == (503, 200)
        elsewhere = {"x-gateway-destination-endpoint": "127.0.0.1:1"}
        assert await weft.statuses(elsewhere) == (503, 200), "clients do not choose replicas"

        await weft.start()
        assert await weft.statuses() == (200, 200)
