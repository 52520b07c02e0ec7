"""TLS on each of Envoy's sides: clients, Weft's gRPC server, replicas."""

import asyncio
import ssl
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from envoy_rig import PATH, PATIENCE_S, chat_body, replicas, start_envoy, until

from router.app import App
from router.config import parse_config
from router.envoy.admin import EnvoyAdmin
from router.envoy.bootstrap import LISTENER, bootstrap
from router.envoy.settings import EnvoySettings, Fleet, Tls
from router.proxy.limits import ProxyLimits


@asynccontextmanager
async def envoy_with(**settings):
    """The address of an Envoy with these settings."""
    with tempfile.TemporaryDirectory(prefix="weft-test-") as directory, ended_after(directory, settings) as admin:
        async with asyncio.timeout(PATIENCE_S), EnvoyAdmin(admin) as asked:
            await asked.wait_until_ready()
            yield (await asked.listeners())[LISTENER]


@contextmanager
def ended_after(directory, settings):
    admin = f"{directory}/admin.sock"
    chosen = EnvoySettings(listen="127.0.0.1:0", admin=f"unix:{admin}", health_checks=False, **settings)
    process = start_envoy(Path(directory), bootstrap(chosen))
    try:
        yield admin
    finally:
        process.kill()
        process.wait()


async def status(url, tls=None):
    async with aiohttp.ClientSession() as client:
        async with client.post(url + PATH, json=chat_body("hello"), ssl=tls or True) as answer:
            await answer.read()
            return answer.status


@pytest.mark.parametrize("verified", [True, False])
async def test_replicas_speak_tls(envoy_binary, certificate, verified):
    public, private = map(str, certificate)
    async with tls_replica(public, private) as port:
        fleet = Fleet(replicas=(f"https://localhost:{port}",), secure=True)
        for authorities, expected in ((public, 200), ("", 503 if verified else 200)):
            limits = ProxyLimits(upstream_ca_file=authorities, upstream_verify=verified, max_tries=1)
            settings = {"extproc": "127.0.0.1:1", "fleet": fleet, "fail_open": True, "limits": limits}
            async with envoy_with(**settings) as address:
                assert await status(f"http://{address}") == expected


@asynccontextmanager
async def tls_replica(public, private):
    """Answers 200 to all; its port."""

    async def answer(_):
        return web.Response()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(public, private)
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    yield site._server.sockets[0].getsockname()[1]
    await runner.cleanup()


async def test_clients_and_weft_speak_tls(envoy_binary, certificate):
    public, private = map(str, certificate)
    async with replicas(1) as (replica,):
        config = {
            "listen": "none",
            "extproc": {"listen": "127.0.0.1:0", "tls": {"certificate": public, "key": private, "client_ca": public}},
            "replicas": [replica.url],
            "models": {"*": {"tokenizer": "text"}},
            "limits": {"drain_s": 0.5},
        }
        async with App(parse_config(config, "test")) as app:
            await until(lambda: app.router.fleet.routable.all())
            weft = f"127.0.0.1:{app.picking.server.port}"
            own = Tls(public, private)
            for to_weft, expected in ((Tls(public, private, public, "localhost"), 200), (None, 503)):
                async with envoy_with(extproc=weft, listen_tls=own, extproc_tls=to_weft) as address:
                    trusting = ssl.create_default_context(cafile=public)
                    url = f"https://localhost:{address.rpartition(':')[2]}"
                    assert await status(url, trusting) == expected
