"""The gRPC server around it: other services, TLS, many streams, clients that die, and its end."""

import asyncio
import shutil
import subprocess
import sys

import grpc
import pytest
from extproc_rig import (
    PATIENCE_S,
    OneAtATime,
    Pod,
    Rig,
    chat,
    log_entry,
    log_message,
    request_body,
    request_headers,
    said_by_weft,
    serving,
    until,
    within,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from router.config import ConfigError
from router.extproc.server import ACCESS_LOG, EXT_PROC

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", ["", "liveness", "readiness", EXT_PROC, ACCESS_LOG])
async def test_health_is_told_by_service(service):
    async with serving(Pod()) as gateway:
        stub = health_pb2_grpc.HealthStub(gateway.channel)
        told = await within(stub.Check(health_pb2.HealthCheckRequest(service=service)))
        assert told.status == SERVING


async def test_reflection_names_the_services():
    async with serving(Pod()) as gateway:
        stub = reflection_pb2_grpc.ServerReflectionStub(gateway.channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="*")
        call = stub.ServerReflectionInfo(iter([asked]))
        told = await within(call.read())
        names = {each.name for each in told.list_services_response.service}
        assert {EXT_PROC, ACCESS_LOG, "grpc.health.v1.Health"} <= names


async def test_many_streams_at_once_each_get_their_own_answer():
    count = 600
    async with serving(*[Pod()] * 4) as gateway:
        calls = [gateway.open() for _ in range(count)]
        bodies = [chat(f"request {number}") for number in range(count)]
        for number, call in enumerate(calls):
            named = {"content-type": "application/json", "x-request-id": str(number)}
            await call.send(request_headers(named), request_body(bodies[number][:9], False))
        await until(lambda: gateway.rig.stats.streams_open == count)
        for call, body in zip(calls, bodies, strict=True):
            await call.send(request_body(body[9:]))
        for call, body in zip(calls, bodies, strict=True):
            decided, whole = await call.rest()
            assert decided.endpoint
            assert whole.chunk == body
        await until(lambda: gateway.rig.stats.streams_open == 0)
        log = gateway.open_log()
        await log.write(log_message(*(log_entry(str(number)) for number in range(count))))
        await until(lambda: gateway.rig.in_flight == 0)


async def test_held_streams_leave_the_queue_with_their_gateway():
    async with serving(Pod(), gate=OneAtATime()) as gateway:
        await gateway.post()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.rig.picking.server.port}") as channel:
            calls = [channel.stream_stream(f"/{EXT_PROC}/Process")() for _ in range(300)]
            for call in calls:
                await call.write(request_headers().SerializeToString())
                await call.write(request_body(chat()).SerializeToString())
            await until(lambda: gateway.rig.router.waiting == 300)
        await until(lambda: gateway.rig.stats.streams_open == 0)
        assert (gateway.rig.router.waiting, gateway.rig.in_flight) == (0, 1)


GATEWAY_THAT_IS_KILLED = """
import asyncio, sys
import grpc

async def main():
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        call = channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process")()
        for message in sys.argv[2:]:
            await call.write(bytes.fromhex(message))
        print("asked", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_gateway_that_is_killed_leaves_the_queue():
    async with serving(Pod(), gate=OneAtATime()) as gateway:
        await gateway.post()
        address = f"127.0.0.1:{gateway.rig.picking.server.port}"
        said = [each.SerializeToString().hex() for each in (request_headers(), request_body(chat()))]
        arguments = ("-c", GATEWAY_THAT_IS_KILLED, address, *said)
        killed = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        try:
            await within(killed.stdout.readline())
            await until(lambda: gateway.rig.router.waiting == 1)
        finally:
            killed.kill()
            await killed.wait()
        await until(lambda: gateway.rig.router.waiting == 0)
        assert (gateway.rig.in_flight, gateway.rig.stats.gone) == (1, 1)


async def test_at_its_end_the_server_lets_streams_finish_and_ends_the_log(caplog):
    async with serving(Pod()) as gateway:
        log = gateway.open_log()
        await log.write(log_message())
        call = gateway.open()
        await call.send(request_headers())
        await until(lambda: gateway.rig.stats.logs_open == 1 and gateway.rig.stats.streams_open == 1)
        stub = health_pb2_grpc.HealthStub(gateway.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=EXT_PROC))
        assert (await within(watch.read())).status == SERVING
        stopping = asyncio.create_task(gateway.rig.picking.server.stop(20.0))
        assert (await within(watch.read())).status == NOT_SERVING
        watch.cancel()
        await call.send(request_body(chat()))
        assert [told.kind for told in await call.rest()] == ["request_headers", "request_body"]
        await within(stopping)
        assert await log.code() is grpc.StatusCode.OK
        assert not said_by_weft(caplog)


@pytest.mark.parametrize("head_start_s", [0.0, 0.0005, 0.001, 0.002, 0.004])
async def test_a_log_that_is_just_being_opened_does_not_hold_up_the_end(head_start_s):
    async with serving(Pod()) as gateway:
        await gateway.post()
        log = gateway.open_log()
        await asyncio.sleep(head_start_s)
        await within(gateway.rig.picking.server.stop(10 * PATIENCE_S))
        log.cancel()


async def test_a_port_that_is_taken_is_an_error_that_names_it():
    async with serving(Pod()) as gateway:
        address = f"127.0.0.1:{gateway.rig.picking.server.port}"
        second = Rig([], {"extproc": {"listen": address}})
        with pytest.raises(ConfigError, match=address):
            await second.picking.start()


async def test_certificates_that_are_not_there_are_an_error_that_names_them(tmp_path):
    missing = str(tmp_path / "tls.crt")
    rig = Rig([], {"extproc": {"tls": {"certificate": missing, "key": missing}}})
    with pytest.raises(ConfigError, match=r"tls\.crt cannot be read"):
        await rig.picking.start()


def make_certificate(folder, name="tls"):
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=weft"
    names = "-addext subjectAltName=IP:127.0.0.1"
    command = f"openssl req {options} {names} -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return certificate, key


async def is_trusted(port, *credentials):
    """Whether a gateway that trusts these certificates can ask."""
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(*credentials)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            return (await within(stub.Check(health_pb2.HealthCheckRequest()))).status == SERVING
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate")


@needs_openssl
async def test_certificates_are_exchanged_while_the_server_runs(tmp_path):
    certificate, key = make_certificate(tmp_path)
    old = certificate.read_bytes()
    files = {"certificate": str(certificate), "key": str(key)}
    async with serving(Pod(), extproc={"tls": files}) as gateway:
        port = gateway.rig.picking.server.port
        assert await is_trusted(port, old)
        new_certificate, new_key = make_certificate(tmp_path, "new")
        new_key.replace(key)
        new_certificate.replace(certificate)
        assert await is_trusted(port, certificate.read_bytes())
        assert not await is_trusted(port, old)
        certificate.unlink()
        key.unlink()
        assert not await is_trusted(port, old), "those in use stay in use"


@needs_openssl
async def test_gateways_may_have_to_show_a_certificate(tmp_path):
    certificate, key = make_certificate(tmp_path)
    mine, my_key = make_certificate(tmp_path, "gateway")
    files = {"certificate": str(certificate), "key": str(key), "client_ca": str(mine)}
    async with serving(Pod(), extproc={"tls": files}) as gateway:
        port, root = gateway.rig.picking.server.port, certificate.read_bytes()
        assert await is_trusted(port, root, my_key.read_bytes(), mine.read_bytes())
        assert not await is_trusted(port, root)
