"""Gateways that speak the protocol wrongly: a clear status each, counted, and nothing left behind."""

import grpc
import pytest
from extproc_rig import BUFFERED, Pod, bare, chat, request_body, request_headers, said_by_weft, serving, until


async def status_of(gateway, *messages):
    """Status of a stream that is ended for what it said."""
    call = gateway.open()
    await call.send(*messages)
    while await call.next() is not None:
        pass
    return await call.status()


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([request_body(b"{}")], "request_body: nothing has come"),
        ([bare("request_trailers")], "request_trailers: nothing has come"),
        ([bare("response_headers")], "response_headers: nothing has come"),
        ([bare("response_body")], "response_body: nothing has come"),
        ([request_headers(), request_headers()], "request_headers: they came before"),
        ([request_headers(), bare("response_trailers")], "response_trailers: the body comes in"),
        ([request_headers(mode=BUFFERED), bare("request_trailers")], "request_trailers: the body comes in"),
        ([request_headers(mode=9)], "protocol_config: 9 is not a valid BodyMode"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
async def test_a_message_that_cannot_come_now_ends_the_stream_with_a_reason(messages, says, caplog):
    async with serving(Pod()) as gateway:
        assert await status_of(gateway, *messages) == (grpc.StatusCode.INVALID_ARGUMENT, says)
        assert dict(gateway.rig.stats.malformed) == {"ext_proc": 1}
        assert (gateway.rig.in_flight, gateway.rig.stats.streams_open) == (0, 0)
        assert not said_by_weft(caplog)


async def test_an_empty_message_says_nothing():
    async with serving(Pod()) as gateway:
        code, says = await status_of(gateway, type(request_body())())
        assert (code, says) == (grpc.StatusCode.INVALID_ARGUMENT, "a ProcessingRequest without a request")


async def test_nobody_would_heed_weft_in_observability_mode():
    async with serving(Pod()) as gateway:
        head = request_headers()
        head.observability_mode = True
        code, says = await status_of(gateway, head)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert says.startswith("observability_mode")


@pytest.mark.parametrize("service", ["ext_proc", "access_log"])
async def test_what_is_no_message_at_all_ends_the_stream(service, caplog):
    async with serving(Pod()) as gateway:
        call = gateway.open().call if service == "ext_proc" else gateway.open_log()
        await call.write(b"\xff\xff\xff\xff")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert dict(gateway.rig.stats.malformed) == {service: 1}
        assert not said_by_weft(caplog)


async def test_a_body_that_says_nonsense_is_the_clients_fault_not_the_gateways():
    async with serving(Pod()) as gateway:
        for body in (b"\x00\xff", b"[" * 100_000, b'{"model": "\xff"}'):
            assert (await gateway.post(body)).refusal[0] == 400
        assert not gateway.rig.stats.malformed


async def test_odd_headers_harm_nobody():
    headers = {
        "content-type": "application/json",
        "x-request-id": "1",
        "x-weft-\u00e9": "\u00fc",
        "x-program-width": "-",
    }
    async with serving(Pod()) as gateway:
        decided, _ = await gateway.ask(request_headers(headers), request_body(chat()))
        assert decided.removed == ["x-program-width", "x-weft-\u00e9"]


async def test_a_stream_that_says_nothing_and_goes_costs_nothing():
    async with serving(Pod()) as gateway:
        call = gateway.open()
        await call.close()
        assert await call.rest() == []
        call = gateway.open()
        await call.send(request_headers(), request_body(chat()[:5], False))
        call.cancel()
        await until(lambda: gateway.rig.stats.streams == 2 and gateway.rig.stats.streams_open == 0)
        assert (gateway.rig.in_flight, gateway.rig.router.stats.submitted) == (0, 0)


async def test_a_gateway_that_closes_the_stream_of_half_a_request_has_given_it_up():
    async with serving(Pod()) as gateway:
        assert await gateway.ask(request_headers(), request_body(chat()[:5], False)) == []
        assert (gateway.rig.stats.gone, gateway.rig.router.stats.submitted) == (1, 0)


async def test_an_unexpected_error_costs_one_request_and_is_logged(caplog):
    async with serving(Pod()) as gateway:
        submit = gateway.rig.dispatcher.submit
        gateway.rig.dispatcher.submit = lambda request: 1 // 0
        status, _, error = (await gateway.post()).refusal
        assert (status, error["type"]) == (500, "server_error")
        assert {record.name for record in caplog.records} - {"asyncio"} == {"weft.extproc"}
        gateway.rig.dispatcher.submit = submit
        assert (await gateway.post()).endpoint
        assert gateway.rig.stats.internal_errors == 1
