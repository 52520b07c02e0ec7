"""Connections to replicas: kept, dropped in time, encrypted."""

import asyncio
import shutil
import ssl
import subprocess

import pytest
from proxy_rig import STREAM_HEAD, Call, answering, delta, ok, post, settled, weft

from router.proxy.origin import Origin


async def test_a_connection_serves_many_requests():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        for _ in range(5):
            assert (await client.ask(post())).status == 200
        assert len(rig.replicas[0].connections) == rig.proxy.stats.connects == 1


async def test_requests_at_the_same_time_have_connections_of_their_own():
    arrived = asyncio.Barrier(3)

    async def script(call: Call) -> None:
        await arrived.wait()
        call.send(ok())

    async with weft(script) as rig:
        answers = await asyncio.gather(*[rig.ask(post()) for _ in range(3)])
        assert [answer.status for answer in answers] == [200] * 3
        assert len(rig.replicas[0].connections) == 3


async def test_an_idle_connection_is_dropped_before_the_replica_does():
    async with weft(answering(ok()), upstream_keep_alive_s=0.02) as rig:
        client = await rig.connect()
        await client.ask(post())
        await rig.replicas[0].calls[0].gone()
        assert len(rig.proxy.pools.of(rig.replicas[0].url)) == 0
        assert (await client.ask(post())).status == 200
        assert rig.proxy.stats.stale_connections == 0


async def test_a_connection_that_has_become_too_old_is_not_taken_even_before_it_is_dropped():
    async with weft(answering(ok()), upstream_keep_alive_s=0.0, deadline_resolution_s=60.0) as rig:
        client = await rig.connect()
        for _ in range(3):
            assert (await client.ask(post())).status == 200
        assert len(rig.replicas[0].connections) == 3


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ok(extra="connection: close\r\n"), id="it says so"),
        pytest.param(ok().replace(b"HTTP/1.1", b"HTTP/1.0"), id="it speaks HTTP/1.0"),
        pytest.param(ok() + b"more than it said", id="it says more than it announced"),
    ],
)
async def test_a_connection_that_cannot_be_kept_is_closed(answer):
    async with weft(answering(answer)) as rig:
        client = await rig.connect()
        assert (await client.ask(post())).status == 200
        await rig.replicas[0].calls[0].gone()
        assert (await client.ask(post())).status == 200


async def test_bytes_that_nobody_asked_for_close_the_connection():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        await client.ask(post())
        rig.replicas[0].calls[0].send(ok(b"for somebody else"))
        await rig.replicas[0].calls[0].gone()
        assert (await client.ask(post())).body != b"for somebody else"


async def test_no_more_idle_connections_are_kept_than_allowed():
    arrived = asyncio.Barrier(3)

    async def script(call: Call) -> None:
        await arrived.wait()
        call.send(ok())

    async with weft(script, max_idle_connections=1) as rig:
        await asyncio.gather(*[rig.ask(post()) for _ in range(3)])
        assert len(rig.proxy.pools.of(rig.replicas[0].url)) == 1


async def test_the_pool_of_a_replica_that_is_gone_is_forgotten():
    async with weft(answering(ok())) as rig:
        pool = rig.proxy.pools.of(rig.replicas[0].url)
        assert (await rig.ask(post())).status == 200
        assert rig.proxy.pools.of(rig.replicas[0].url) is pool
        rig.replicas[0].connections[0].transport.close()
        assert await settled(lambda: len(pool)) == 0
        assert rig.proxy.pools.of(rig.replicas[0].url) is not pool


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 and its key, both in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    path = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=replica"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key -out certificate"
    subprocess.run(command.split(), cwd=path, check=True, capture_output=True)
    return path / "certificate", path / "key"


@pytest.fixture
def server_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_an_https_replica_is_asked_over_tls(server_tls, certificate):
    stream = answering(STREAM_HEAD, delta("hi"), b"0\r\n\r\n")
    async with weft(stream, ssl=server_tls, upstream_ca_file=str(certificate[0])) as rig:
        client = await rig.connect()
        for _ in range(2):
            assert b'"hi"' in (await client.ask(post(b"x" * 100_000))).body
        assert len(rig.replicas[0].connections) == 1


async def test_a_replica_with_an_unknown_certificate_is_not_asked(server_tls):
    async with weft(answering(ok()), ssl=server_tls) as rig:
        assert (await rig.ask(post())).status == 502
        assert rig.replicas[0].calls == []


async def test_unless_certificates_are_not_checked(server_tls):
    async with weft(answering(ok()), ssl=server_tls, upstream_verify=False) as rig:
        assert (await rig.ask(post())).status == 200


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://a:8000", Origin("a", 8000, False, b"a:8000", b"")),
        ("http://a", Origin("a", 80, False, b"a", b"")),
        ("https://a/base/", Origin("a", 443, True, b"a", b"/base")),
        ("http://[::1]:8000", Origin("::1", 8000, False, b"[::1]:8000", b"")),
    ],
)
def test_a_base_url_is_taken_apart(url, origin):
    assert Origin.parse(url) == origin


@pytest.mark.parametrize("url", ["a:8000", "ftp://a", "http://", "http://a:99999"])
def test_what_is_no_base_url_is_refused(url):
    with pytest.raises(ValueError, match=r"http|Port"):
        Origin.parse(url)
