"""What a client may send, and what becomes of it."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_rig import ANSWER, BODY, PATH, Call, answering, chunk, ok, post, silence, weft

from router.core.types import Request
from router.errors import ApiError
from router.proxy.ports import LocalResponse

HEALTH = b"GET /health HTTP/1.1\r\nHost: weft\r\n\r\n"
CHUNKED = f"POST {PATH} HTTP/1.1\r\nHost: weft\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


async def test_the_body_goes_to_the_replica_byte_for_byte():
    body = bytes(range(256)) * 100
    async with weft(answering(ok())) as rig:
        answer = await rig.ask(post(body))
        assert (answer.status, answer.body) == (200, ANSWER)
        call = rig.replicas[0].calls[0]
        assert call.body == body
        assert rig.intake.seen[0][2] == body
        assert call.request_line == f"POST {PATH} HTTP/1.1"


async def test_headers_go_to_the_replica_except_those_of_the_hop_and_those_of_weft():
    extra = (
        "Authorization: Bearer x\r\nAccept: text/event-stream\r\nX-Program-Id: p1\r\nX-Weft-Explain: 1\r\n"
        "Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n"
        "Proxy-Authorization: y\r\nX-Data-Parallel-Rank: 9\r\nX-Request-Id: mine\r\nUpgrade: h2c\r\n"
    )
    async with weft(answering(ok())) as rig:
        answer = await rig.ask(post(extra=extra))
        call = rig.replicas[0].calls[0]
        assert call.headers == [
            (b"host", rig.replicas[0].url.removeprefix("http://").encode()),
            (b"content-type", b"application/json"),
            (b"authorization", b"Bearer x"),
            (b"accept", b"text/event-stream"),
            (b"x-request-id", b"mine"),
            (b"content-length", b"%d" % len(BODY)),
        ]
        assert answer.headers[b"x-request-id"] == b"mine"
        seen = dict(rig.intake.seen[0][1])
        assert (seen[b"x-weft-explain"], seen[b"x-program-id"]) == (b"1", b"p1")


@pytest.mark.parametrize("hint", ["p1", "x" * 20_000, "\u00fc"])
async def test_hints_do_not_reach_the_replica_which_might_not_stand_them(hint):
    async with weft(answering(ok())) as rig:
        answer = await rig.ask(post(extra=f"X-Program-Id: {hint}\r\nX-Session-Id: s\r\n"))
        assert answer.status == 200
        assert dict(rig.intake.seen[0][1])[b"x-program-id"] == hint.encode()
        names = [name for name, _ in rig.replicas[0].calls[0].headers]
        assert b"x-session-id" in names
        assert b"x-program-id" not in names


async def test_a_request_without_an_id_gets_one_that_intake_replica_and_client_see():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        first, second = await client.ask(post()), await client.ask(post(extra="X-Request-Id: " + "x" * 300 + "\r\n"))
        ids = [answer.headers[b"x-request-id"] for answer in (first, second)]
        assert ids == [call.header(b"x-request-id") for call in rig.replicas[0].calls]
        assert ids == [dict(headers)[b"x-request-id"] for _, headers, _ in rig.intake.seen]
        assert len({*ids}) == 2
        assert len(ids[1]) < 64


async def test_a_chunked_body_reaches_the_replica_with_a_length():
    async with weft(answering(ok())) as rig:
        answer = await rig.ask(CHUNKED + chunk(b'{"a":') + b"2;x=y\r\n1}\r\n0\r\nTrailer: x\r\n\r\n")
        assert answer.status == 200
        call = rig.replicas[0].calls[0]
        assert call.body == b'{"a":1}'
        assert call.header(b"content-length") == b"7"
        assert call.header(b"transfer-encoding") is None


@settings(max_examples=60, deadline=None)
@given(st.data())
async def test_however_requests_are_cut_they_are_read_alike(data):
    requests = post(b"first") + CHUNKED + chunk(b"sec") + chunk(b"ond") + b"0\r\n\r\n" + b"\r\n" + post(b"third")
    points = sorted(data.draw(st.sets(st.integers(1, len(requests) - 1), max_size=30)))
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        for start, end in zip([0, *points], [*points, len(requests)], strict=True):
            client.send(requests[start:end])
            await asyncio.sleep(0)
        assert [(await client.answer()).status for _ in range(3)] == [200] * 3
        assert [call.body for call in rig.replicas[0].calls] == [b"first", b"second", b"third"]


async def test_pipelined_requests_are_answered_in_order():
    released = asyncio.Event()

    async def script(call: Call) -> None:
        if call.body == b"slow":
            await released.wait()
        call.send(ok(call.body))

    async with weft(script) as rig:
        client = await rig.connect()
        client.send(post(b"slow") + HEALTH + post(b"fast") + HEALTH)
        await rig.replicas[0].next_call()
        assert len(rig.replicas[0].calls) == 1
        released.set()
        assert [(await client.answer()).body for _ in range(4)] == [b"slow", b"fine", b"fast", b"fine"]


async def test_many_pipelined_requests_are_all_answered():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        client.send((HEALTH + post()) * 500)
        for _ in range(500):
            assert (await client.answer()).body == b"fine"
            assert (await client.answer()).body == ANSWER


async def test_what_is_sent_ahead_is_bounded():
    released = asyncio.Event()

    async def script(call: Call) -> None:
        await released.wait()
        call.send(ok())

    async with weft(script, max_pipelined_bytes=1000) as rig:
        client = await rig.connect()
        client.send(post() + post(b"x" * 20_000_000))
        await rig.replicas[0].next_call()
        assert await client.unsent_bytes() > 5_000_000
        released.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]


async def test_a_client_that_asks_is_told_to_go_on():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        head, _, body = post(extra="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert (await client.head())[0] == 100
        assert (await client.ask(body)).status == 200
        assert rig.replicas[0].calls[0].header(b"expect") is None


async def test_a_client_that_sends_its_body_anyway_is_not_told():
    async with weft(answering(ok())) as rig:
        assert (await rig.ask(post(extra="Expect: 100-continue\r\n"))).status == 200


async def test_a_client_that_asks_first_is_refused_before_it_sends():
    async with weft(silence, max_body_bytes=1000) as rig:
        big = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"
        lost = "POST /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
        assert (await rig.ask(big.encode())).status == 413
        assert (await rig.ask(lost.encode())).status == 404


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"POST / HTTP/1.1\nHost: x\n\n", 400, id="bare LF only"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", 400, id="bare LF"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", 400, id="obs-fold"),
        pytest.param(b"\x16\x03\x01\x00\xa5\x01\x00\x00", 400, id="TLS"),
        pytest.param(b"POST / HTTP/2.0\r\nHost: x\r\n\r\n", 400, id="bad version"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, id="two lengths"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            id="CL and TE",
        ),
        pytest.param(CHUNKED + b"xyz\r\n", 400, id="bad chunk"),
        pytest.param(CHUNKED + b"1\nx", 400, id="bare LF in a chunk size"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431, id="long head, whole"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000, 431, id="long head, endless"),
        pytest.param(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n", 413, id="long body"),
        pytest.param(CHUNKED + chunk(b"x" * 1_100_000), 413, id="long chunked body"),
        pytest.param(b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", 501, id="unknown method"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, id="coding"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", 417, id="expectation"),
    ],
)
async def test_a_bad_request_is_refused_in_the_api_s_own_words_and_the_connection_closed(request_, status):
    async with weft(silence, max_body_bytes=1_000_000) as rig:
        client = await rig.connect()
        answer = await client.ask(request_)
        assert answer.status == status
        assert answer.headers[b"connection"] == b"close"
        assert answer.headers[b"content-type"] == b"application/json"
        assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}
        assert await client.is_closed()
        assert rig.intake.seen == []


async def test_a_client_still_sending_when_it_is_refused_sees_why():
    async with weft(silence, max_body_bytes=1000, linger_s=5.0) as rig:
        client = await rig.connect()
        client.send(CHUNKED)
        for _ in range(200):
            client.send(chunk(b"x" * 50_000))
            await asyncio.sleep(0)
        assert (await client.answer()).status == 413


@pytest.mark.parametrize(
    ("line", "status", "allow"),
    [
        ("GET /nowhere", 404, None),
        ("POST /nowhere", 404, None),
        ("POST /reset_prefix_cache", 404, None),
        ("POST /v1/../reset_prefix_cache", 404, None),
        ("POST /v1/%2e%2E/reset_prefix_cache", 404, None),
        ("POST /v1/%2e%2e%2freset_prefix_cache", 404, None),
        ("OPTIONS *", 404, None),
        ("POST /health", 405, b"GET"),
        ("GET /v1/chat/completions", 405, b"POST"),
        ("DELETE /v1/responses/x", 405, b"POST"),
    ],
)
async def test_what_is_not_there_is_said_and_the_connection_kept(line, status, allow):
    async with weft(silence) as rig:
        client = await rig.connect()
        answer = await client.ask(f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi".encode())
        assert (answer.status, answer.headers.get(b"allow")) == (status, allow)
        assert "error" in json.loads(answer.body)
        assert (await client.ask(HEALTH)).status == 200


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings?x=1", "/v1/what/ever/comes", "/v1/a..b/c"])
async def test_every_post_below_v1_goes_to_a_replica_with_its_query(path):
    async with weft(answering(ok())) as rig:
        assert (await rig.ask(post(path=path))).status == 200
        assert rig.replicas[0].calls[0].request_line == f"POST {path} HTTP/1.1"
        assert rig.intake.seen[0][0] == path.partition("?")[0]


async def test_a_replica_below_a_path_is_asked_there():
    async with weft(answering(ok())) as rig:
        spec = rig.dispatcher.specs[0]
        rig.dispatcher.specs[0] = type(spec)(name="sub", url=spec.url + "/base/", rank=3)
        await rig.ask(post())
        call = rig.replicas[0].calls[0]
        assert call.request_line == f"POST /base{PATH} HTTP/1.1"
        assert call.header(b"x-data-parallel-rank") == b"3"


@pytest.mark.parametrize("name", ["X-Prefiller-Host-Port", "x-llm-d-prefiller-host-port"])
async def test_a_client_does_not_say_who_computes_its_prompt(name):
    async with weft(answering(ok())) as rig:
        await rig.ask(post(extra=f"{name}: 10.0.0.1:80\r\n"))
        assert rig.replicas[0].calls[0].header(name.lower().encode()) is None


async def test_a_body_that_is_not_json_is_forwarded_but_not_read():
    upload = b"--x\r\nContent-Disposition: form-data\r\n\r\n\x00\x01\r\n--x--\r\n"
    async with weft(answering(ok())) as rig:
        request = post(upload, "/v1/audio/transcriptions").replace(b"application/json", b"multipart/form-data")
        assert (await rig.ask(request)).status == 200
        assert rig.replicas[0].calls[0].body == upload
        assert rig.intake.seen[0][2] == b""


async def test_the_intake_and_the_dispatcher_may_refuse():
    async with weft(silence) as rig:
        client = await rig.connect()
        rig.intake.read = lambda *_: raise_(ApiError(400, "no model", param="model"))
        answer = await client.ask(post())
        assert (answer.status, json.loads(answer.body)["error"]["param"]) == (400, "model")
        assert answer.headers[b"x-request-id"]
        del rig.intake.read
        rig.dispatcher.specs.clear()
        answer = await client.ask(post())
        assert (answer.status, answer.headers[b"retry-after"]) == (503, b"7")


async def test_the_intake_may_take_its_time():
    async with weft(answering(ok())) as rig:
        waiting: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        read, entered = rig.intake.read, asyncio.Event()

        def slow(path, headers, body):
            asyncio.get_running_loop().call_soon(waiting.set_result, read(path, headers, body))
            entered.set()
            return waiting

        rig.intake.read = slow
        assert (await rig.ask(post())).status == 200
        assert entered.is_set()


async def test_a_fault_in_the_router_costs_one_request_only():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        rig.intake.read = lambda *_: raise_(ZeroDivisionError())
        answer = await client.ask(post())
        assert (answer.status, json.loads(answer.body)["error"]["type"]) == (500, "server_error")
        del rig.intake.read
        assert (await client.ask(post())).status == 200
        assert rig.proxy.stats.internal_errors == 1
        rig.proxy.stats.internal_errors = 0


async def test_a_fault_behind_an_answer_that_was_sent_closes_its_connection():
    def broken(*_):
        raise ZeroDivisionError

    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        rig.dispatcher.response_ended = broken
        client.send(post())
        with pytest.raises(ConnectionResetError):
            await client.rest()
        rig.dispatcher.open.clear()
        rig.proxy.stats.internal_errors = 0


async def test_local_routes_may_wait_refuse_and_fail():
    async def later() -> LocalResponse:
        await asyncio.sleep(0)
        return LocalResponse(200, [(b"x-page", b"1")], b"page")

    async with weft(silence) as rig:
        rig.proxy.local_routes |= {
            ("GET", "/later"): later,
            ("GET", "/refused"): lambda: raise_(ApiError(503, "not ready")),
            ("GET", "/broken"): lambda: raise_(ZeroDivisionError()),
        }
        client = await rig.connect()
        pages = [await client.ask(b"GET /%s?x HTTP/1.1\r\nHost: x\r\n\r\n" % name) for name in PAGES]
        assert [page.status for page in pages] == [200, 503, 500]
        assert (pages[0].headers[b"x-page"], pages[0].body) == (b"1", b"page")
        assert rig.proxy.stats.internal_errors == 1
        rig.proxy.stats.internal_errors = 0


PAGES = (b"later", b"refused", b"broken")


async def test_connection_close_is_honoured():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        answer = await client.ask(post(extra="Connection: close\r\n"))
        assert (answer.status, answer.headers[b"connection"]) == (200, b"close")
        assert await client.is_closed()


async def test_http_1_0_is_answered_and_closed_unless_it_wants_to_stay():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        answer = await client.ask(post(version="1.0", extra="Connection: keep-alive\r\n"))
        assert (answer.status, answer.headers[b"connection"]) == (200, b"keep-alive")
        answer = await client.ask(post(version="1.0"))
        assert (answer.status, answer.headers[b"connection"]) == (200, b"close")
        assert await client.is_closed()


@pytest.mark.parametrize(
    "part",
    [b"", b"POST / HT", CHUNKED, CHUNKED + b"5\r\nab", post()[:-3]],
    ids=["nothing", "half a head", "no body", "half a chunk", "half a body"],
)
async def test_a_client_that_stops_sending_is_sent_away(part):
    times = {"header_timeout_s": 0.15, "body_timeout_s": 0.15, "keep_alive_s": 0.15}
    async with weft(silence, **times) as rig:
        client = await rig.connect()
        client.send(part)
        if part:
            assert (await client.answer()).status == 408
        assert await client.is_closed()


async def test_an_idle_connection_is_closed_without_a_word():
    async with weft(answering(ok()), keep_alive_s=0.15) as rig:
        client = await rig.connect()
        assert (await client.ask(post())).status == 200
        assert await client.is_closed()


def raise_(error: Exception) -> None:
    raise error
