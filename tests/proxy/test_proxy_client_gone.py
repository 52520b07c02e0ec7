"""A client that leaves stops the work that was done for it, wherever its request is."""

import asyncio

import pytest
from proxy_rig import DONE, END, ROLE, STREAM_HEAD, Call, Rig, answering, delta, ok, post, silence, weft, within

from router.core.types import Outcome


async def gone_once(rig: Rig) -> None:
    assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.CLIENT_GONE)]
    assert rig.proxy.stats.clients_gone == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="before any answer"),
        pytest.param(STREAM_HEAD, id="after the head"),
        pytest.param(STREAM_HEAD + ROLE, id="while the answer is held back"),
        pytest.param(STREAM_HEAD + delta("hi"), id="in the middle of a stream"),
    ],
)
@pytest.mark.parametrize("leaves", ["resets", "closes", "closes its sending side"])
async def test_the_replica_is_told_at_once(answer, leaves):
    async def script(call: Call) -> None:
        call.send(answer)

    async with weft(script) as rig:
        client = await rig.connect()
        client.send(post())
        call = await rig.replicas[0].next_call()
        if b"hi" in answer:
            await client.head()
        if leaves == "resets":
            client.leave()
        elif leaves == "closes":
            client.writer.close()
        else:
            client.writer.write_eof()
        await call.gone()
        await gone_once(rig)


async def test_while_it_waits_for_a_replica():
    async with weft(silence) as rig:
        waiting, cancelled = asyncio.Event(), asyncio.Event()

        async def route(request):
            waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        rig.dispatcher.route = route
        client = await rig.connect()
        client.send(post())
        await within(waiting.wait())
        client.leave()
        await within(cancelled.wait())
        assert rig.dispatcher.ends.empty()


async def test_while_it_is_read():
    async with weft(silence) as rig:
        read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entered = asyncio.Event()

        def slow(*_):
            entered.set()
            return read

        rig.intake.read = slow
        client = await rig.connect()
        client.send(post())
        await within(entered.wait())
        client.leave()
        with pytest.raises(asyncio.CancelledError):
            await within(read)


async def test_while_the_replica_is_being_connected():
    async with weft(silence) as rig:
        connecting, cancelled = asyncio.Event(), asyncio.Event()
        pool = rig.proxy.pools.of(rig.replicas[0].url)

        async def connect():
            connecting.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        pool.connect = connect
        client = await rig.connect()
        client.send(post())
        await within(connecting.wait())
        client.leave()
        await within(cancelled.wait())
        await gone_once(rig)


async def test_between_two_tries():
    async with weft(answering(ok(b"", status="500 Down")), silence) as rig:
        client = await rig.connect()
        client.send(post())
        await rig.replicas[1].next_call()
        client.leave()
        await rig.replicas[1].calls[0].gone()
        assert await rig.dispatcher.outcomes(2) == [
            ("replica-0", Outcome.FAILED),
            ("replica-1", Outcome.CLIENT_GONE),
        ]


async def test_what_it_had_sent_ahead_is_forgotten():
    async with weft(silence) as rig:
        client = await rig.connect()
        client.send(post() + post())
        call = await rig.replicas[0].next_call()
        client.leave()
        await call.gone()
        await gone_once(rig)
        assert len(rig.replicas[0].calls) == 1


async def test_an_answer_that_was_complete_still_counts():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        await client.ask(post())
        client.leave()
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]
        assert rig.proxy.stats.clients_gone == 0


async def test_a_page_of_the_router_s_own_is_given_up_too():
    async with weft(silence) as rig:
        entered, cancelled = asyncio.Event(), asyncio.Event()

        async def page():
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        rig.proxy.local_routes[("GET", "/slow")] = page
        client = await rig.connect()
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await within(entered.wait())
        client.leave()
        await within(cancelled.wait())


@pytest.mark.parametrize("turns", range(60))
async def test_whenever_it_leaves_each_try_ends_once_and_nothing_is_left(turns):
    failing = answering(ok(b"", status="500 Down"))
    streaming = answering(STREAM_HEAD, ROLE, delta("a"), delta("b"), DONE, END)
    async with weft(failing, streaming) as rig:
        client = await rig.connect()
        client.send(post() + post())
        for _ in range(turns):
            await asyncio.sleep(0)
        client.leave()
