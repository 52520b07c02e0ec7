"""One real Envoy for all tests: a listener for each way of running it, all of them asking the same Weft."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from router.app import App
from router.config import parse_config
from router.envoy.address import Json
from router.envoy.admin import EnvoyAdmin
from router.envoy.bootstrap import LISTENER, bootstrap
from router.envoy.clusters import REPLICAS
from router.envoy.endpoints import write_endpoints
from router.envoy.places import place_of
from router.envoy.process import apart_but_not_without, find_envoy
from router.envoy.settings import BodyMode, EnvoySettings, Fleet
from sim.engine import load_profile
from sim.replica.faults import Fault, FaultKind
from sim.replica.replica import Replica
from sim.replica.serving import serve_replicas
from sim.replica.settings import Settings

PATIENCE_S = 60.0
"""No wait in a test is meant to last this long; it turns a hang into a failure."""

PATH = "/v1/chat/completions"
WAYS = ("buffered", "duplex")
"""In which a request's body comes to Weft. Besides: ``open`` can do without Weft, ``anywhere`` knows no replica, and
``streamed`` and ``early`` are modes that `weft envoy-config` does not write."""


class Envoy:
    """The process, and where it listens in each way."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.extproc = f"unix:{directory / 'extproc.sock'}"
        self.urls: dict[str, str] = {}
        self._endpoints = directory / "endpoints.json"
        self._admin = str(directory / "admin.sock")
        write_endpoints(self._endpoints, [])
        self._process = start_envoy(directory, self._configuration())
        asyncio.run(self._until_ready())

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    async def knows(self, urls: Sequence[str]) -> None:
        """Tells it which replicas there are, and waits until it has heard."""
        places = [place_of(url) for url in urls]
        write_endpoints(self._endpoints, places)
        addresses = {place.address for place in places}
        async with asyncio.timeout(PATIENCE_S):
            while await self._addresses() != addresses:
                await asyncio.sleep(0.02)

    async def counter(self, name: str) -> int:
        async with EnvoyAdmin(self._admin) as admin:
            return await admin.counter(name)

    async def _until_ready(self) -> None:
        async with asyncio.timeout(PATIENCE_S), EnvoyAdmin(self._admin) as admin:
            await admin.wait_until_ready()
            self.urls = {name: f"http://{address}" for name, address in (await admin.listeners()).items()}

    async def _addresses(self) -> set[str]:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(self._admin)) as session:
            async with session.get("http://envoy/clusters?format=json") as answer:
                clusters = (await answer.json(content_type=None))["cluster_statuses"]
        hosts = next(each for each in clusters if each["name"] == REPLICAS).get("host_statuses", [])
        sockets = [host["address"]["socket_address"] for host in hosts]
        return {f"{each['address']}:{each['port_value']}" for each in sockets}

    def _configuration(self) -> Json:
        known = EnvoySettings(
            listen="127.0.0.1:0",
            extproc=self.extproc,
            admin=f"unix:{self._admin}",
            fleet=Fleet(endpoints_file=self._endpoints),
            health_checks=False,
        )
        ways = {way: replace(known, body=BodyMode(way)) for way in WAYS}
        ways["open"] = replace(known, fail_open=True)
        ways["anywhere"] = replace(known, fleet=Fleet())
        ways["streamed"] = ways["early"] = known
        whole = bootstrap(known) | {"static_resources": {"listeners": [], "clusters": []}}
        clusters: dict[str, Json] = {}
        for way, settings in ways.items():
            text = json.dumps(bootstrap(settings)["static_resources"])
            if way == "anywhere":
                text = text.replace(f'"{REPLICAS}"', '"anywhere"')
            if way == "streamed":
                text = text.replace('"BUFFERED"', '"STREAMED"')
            if way == "early":
                mode = '"send_body_without_waiting_for_header_response": true, "processing_mode"'
                text = text.replace('"BUFFERED"', '"STREAMED"').replace('"processing_mode"', mode)
            resources = json.loads(text)
            whole["static_resources"]["listeners"] += [each | {"name": way} for each in resources["listeners"]]
            clusters |= {each["name"]: each for each in resources["clusters"]}
        whole["static_resources"]["clusters"] = list(clusters.values())
        assert LISTENER not in ways
        return whole


def start_envoy(directory: Path, content: Json) -> subprocess.Popen[bytes]:
    """Returns at once."""
    configuration = directory / "envoy.json"
    configuration.write_text(json.dumps(content))
    command = [str(find_envoy()), "-c", str(configuration), "--log-level", "warn", "--disable-hot-restart"]
    with (directory / "envoy.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=apart_but_not_without(os.getpid()))


@dataclass
class Pool:
    """Replicas, a Weft that is asked by Envoy, and a client of Envoy."""

    envoy: Envoy
    app: App
    replicas: Sequence[Replica]
    client: aiohttp.ClientSession

    def url(self, way: str = "buffered") -> str:
        return self.envoy.urls[way] + PATH

    async def chat(
        self, text: str, way: str = "buffered", headers: dict[str, str] | None = None, **fields: Any
    ) -> Said:
        body = chat_body(text, **fields)
        async with self.client.post(self.url(way), json=body, headers=headers) as answer:
            return Said(answer.status, answer.headers, await answer.json(content_type=None))

    def stream(self, text: str, way: str = "buffered", **fields: Any) -> Any:
        """A streamed answer, as a context."""
        return self.client.post(self.url(way), json=chat_body(text, stream=True, **fields))

    def fault(self, kind: FaultKind, **details: Any) -> None:
        """Brings it about at all replicas."""
        for replica in self.replicas:
            replica.apply(Fault(kind, **details))

    async def lose(self, replica: Replica) -> None:
        """Until nobody listens there any more."""
        replica.apply(Fault(FaultKind.CRASH, down_s=3600.0))
        async with asyncio.timeout(PATIENCE_S):
            while await _answers(replica):
                await asyncio.sleep(0.01)

    async def idle(self) -> None:
        """Until no request weighs on any replica."""
        await until(lambda: self.app.router.in_flight == 0)


@dataclass
class Said:
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def replica(self) -> str:
        return self.headers["x-weft-replica"]


def chat_body(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 4} | fields


@asynccontextmanager
async def replicas(count: int = 2, speed: float = 50.0, **engine: Any) -> AsyncIterator[Sequence[Replica]]:
    profile = load_profile("laptop-demo")
    settings = Settings(replace(profile.engine, **engine), model="m", kv_events_port=None, speed=speed)
    async with serve_replicas(count, settings) as serving:
        yield serving


@asynccontextmanager
async def weft(envoy: Envoy, serving: Sequence[Replica], **config: Any) -> AsyncIterator[App]:
    """A Weft that knows the replicas, which Envoy knows too."""
    urls = [replica.url for replica in serving]
    chosen = {
        "listen": "none",
        "extproc": {"listen": envoy.extproc, "fallbacks": 2},
        "replicas": urls,
        "models": {"*": {"tokenizer": "text"}},
        "engine": {"metrics_interval_s": 0.1, "health_interval_s": 30.0},
        "limits": {"drain_s": 0.5},
    }
    async with App(parse_config(chosen | config, "test")) as app:
        await envoy.knows(urls)
        await until(lambda: app.router.fleet.routable.sum() == len(serving))
        yield app


@asynccontextmanager
async def pool(
    envoy: Envoy, count: int = 2, *, config: dict[str, Any] | None = None, **engine: Any
) -> AsyncIterator[Pool]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        replicas(count, **engine) as serving,
        weft(envoy, serving, **(config or {})) as app,
        aiohttp.ClientSession(timeout=timeout, connector=connector) as client,
    ):
        yield Pool(envoy, app, serving, client)


async def _answers(replica: Replica) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    except OSError:
        return False
    writer.close()
    return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)
