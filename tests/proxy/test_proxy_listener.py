"""Where it listens, and how it stops."""

import asyncio

import pytest
from proxy_rig import END, STREAM_HEAD, Call, Client, answering, delta, ok, post, silence, weft, within

from router.core.types import Outcome
from router.proxy.listener import Listener, split_address

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_running_answers_are_finished_and_nothing_else_is_accepted():
    finish = asyncio.Event()

    async def script(call: Call) -> None:
        call.send(STREAM_HEAD + delta("a"))
        await finish.wait()
        call.send(delta("b") + END)

    async with weft(script) as rig:
        idle, busy, late = [await rig.connect() for _ in range(3)]
        assert (await idle.ask(HEALTH)).status == 200
        busy.send(post())
        late.send(post()[:-1])
        await busy.head()
        chunks = busy.chunks()
        assert b'"a"' in await anext(chunks)
        draining = asyncio.create_task(rig.listener.drain())
        assert await idle.is_closed()
        with pytest.raises(ConnectionRefusedError):
            await rig.connect()
        assert not draining.done()
        finish.set()
        assert b'"b"' in await anext(chunks)
        assert [piece async for piece in chunks] == []
        assert await busy.is_closed()
        answer = await late.ask(post()[-1:])
        assert (answer.status, answer.headers[b"connection"]) == (200, b"close")
        await within(draining)


async def test_what_does_not_end_in_time_is_cut_off():
    async with weft(answering(STREAM_HEAD, delta("a")), drain_s=0.02) as rig:
        client = await rig.connect()
        client.send(post())
        await client.head()
        await within(rig.listener.drain())
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.CLIENT_GONE)]
        await rig.replicas[0].calls[0].gone()


async def test_idle_connections_to_replicas_are_closed_at_the_end():
    async with weft(answering(ok())) as rig:
        await rig.ask(post())
        await within(rig.listener.drain())
        rig.proxy.close()
        await rig.replicas[0].calls[0].gone()


async def test_it_listens_on_a_unix_socket(tmp_path):
    path = tmp_path / "weft.sock"
    async with weft(answering(ok())) as rig:
        for _ in range(2):
            listener = Listener(rig.proxy, f"unix:{path}")
            await listener.start()
            client = Client(*await asyncio.open_unix_connection(str(path)))
            assert (await client.ask(post())).status == 200
            client.leave()
            await within(listener.drain())


async def test_a_broken_stream_over_a_unix_socket_is_closed_too(tmp_path):
    async def script(call: Call) -> None:
        call.send(ok(b"x" * 100_000)[:-1])
        call.close()

    async with weft(script) as rig:
        listener = Listener(rig.proxy, f"unix:{tmp_path}/s")
        await listener.start()
        client = Client(*await asyncio.open_unix_connection(f"{tmp_path}/s"))
        client.send(post())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.answer()
        client.leave()
        await within(listener.drain())


async def test_it_can_be_stopped_twice_and_before_it_was_started():
    async with weft(silence) as rig:
        await Listener(rig.proxy, "127.0.0.1:0").drain()
        await within(rig.listener.drain())


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("0.0.0.0:8080", ("0.0.0.0", 8080)),
        (":8080", ("", 8080)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses(address, parts):
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["", "8080", "host:", "host:http", "host:65536", "host:-1"])
def test_what_is_no_address(address):
    with pytest.raises(ValueError, match="listen address"):
        split_address(address)
