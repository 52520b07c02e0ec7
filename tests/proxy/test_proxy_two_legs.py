"""A prompt computed on one replica and answered by another: what each of them is asked, and what the client gets."""

import json

import pytest
from legs_rig import CACHED_TOKENS, ONE_TOKEN, answered, params, prefilled, usage
from proxy_rig import ANSWER, BODY, DONE, END, ROLE, STREAM_HEAD, answering, chunk, delta, event, ok, post, weft

from router.core.types import Outcome, ReplicaSpec, Usage

STREAMED = b'{"model":"m","stream":true,"messages":[]}'
LAST = b'{"choices":[],"usage":%s}'
REPORTED = usage(0)
CORRECTED = usage(CACHED_TOKENS)


async def test_the_prompt_is_computed_here_and_the_answer_comes_from_there():
    async with weft(answering(ok(answered(0))), prefills=[prefilled()]) as rig:
        client = await rig.connect()
        answer = await client.ask(post())
        assert (answer.status, answer.body) == (200, answered(CACHED_TOKENS))
        assert answer.headers[b"x-weft-replica"] == b"replica-0"
        first, second = rig.prefills[0].calls[0], rig.replicas[0].calls[0]
        assert json.loads(first.body)["max_tokens"] == 1
        assert params(first)["do_remote_decode"]
        assert params(second) == {
            "do_remote_prefill": True,
            "remote_block_ids": [[1]],
            "remote_request_id": "leg-1",
        }
        assert rig.dispatcher.ends.get_nowait() == ("replica-0", Outcome.OK, Usage(1000, None, 2))
        assert rig.dispatcher.leg_ends == [("prefill-0", Outcome.OK, Usage(1000, CACHED_TOKENS, 2))]
        assert rig.proxy.stats.prefill_legs == {"ok": 1}
        assert rig.proxy.stats.stranded == 0
        assert (await client.ask(post())).status == 200


async def test_both_legs_have_the_same_id_and_their_own_replica_s_head():
    async with weft(answering(ok()), prefills=[prefilled()]) as rig:
        rig.dispatcher.prefills[0] = ReplicaSpec("p", rig.prefills[0].url, rank=3)
        await rig.ask(post(extra="x-request-id: abc\r\naccept-encoding: gzip\r\nx-mine: 1\r\n"))
        first, second = rig.prefills[0].calls[0], rig.replicas[0].calls[0]
        assert first.header(b"x-request-id") == second.header(b"x-request-id") == b"abc"
        assert first.header(b"x-mine") == second.header(b"x-mine") == b"1"
        assert first.header(b"x-data-parallel-rank") == b"3"
        assert second.header(b"x-data-parallel-rank") is None
        assert first.header(b"accept-encoding") is None
        assert second.header(b"accept-encoding") == b"gzip"
        assert first.header(b"host") != second.header(b"host")
        assert int(second.header(b"content-length")) == len(second.body)


async def test_connections_to_prefill_replicas_are_kept():
    async with weft(answering(ok()), prefills=[prefilled()]) as rig:
        client = await rig.connect()
        for _ in range(3):
            await client.ask(post())
        assert len(rig.prefills[0].connections) == 1
        assert len(rig.replicas[0].connections) == 1


async def test_an_answer_that_says_nothing_of_cached_tokens_keeps_its_bytes():
    raw = STREAM_HEAD + ROLE + delta("hi") + event(LAST % usage(None)) + DONE + END
    async with weft(answering(raw), prefills=[prefilled()]) as rig:
        answer = await rig.ask(post(STREAMED))
        assert answer.body.endswith(b"data: " + LAST % usage(None) + b"\n\ndata: [DONE]\n\n")


async def test_a_prefill_replica_that_says_nothing_of_cached_tokens_changes_nothing():
    async with weft(answering(ok(answered(16))), prefills=[prefilled(None)]) as rig:
        assert (await rig.ask(post())).body == answered(16)


async def test_the_usage_of_a_stream_is_corrected_and_everything_else_is_the_same():
    pieces = [ROLE, delta("hi"), delta("", "stop"), event(LAST % REPORTED), DONE, END]
    async with weft(answering(STREAM_HEAD, *pieces), prefills=[prefilled()]) as rig:
        client = await rig.connect()
        answer = await client.ask(post(STREAMED))
        plain = b"".join(piece.split(b"\r\n")[1] for piece in pieces[:-1])
        assert answer.body == plain.replace(REPORTED, CORRECTED)
        assert answer.headers[b"transfer-encoding"] == b"chunked"
        assert b"content-length" not in answer.headers
        assert (await client.ask(post(STREAMED))).status == 200


EVENTS = b"".join(
    [
        ROLE,
        delta("hi"),
        event(b'{"choices":[],"usage":null}'),
        event(LAST % REPORTED),
        event(LAST % REPORTED),
        DONE,
        END,
    ]
)
FROM, TO = EVENTS.rindex(b'{"choices":[],"usage":') - 12, len(EVENTS)


@pytest.mark.parametrize("cut", range(FROM, TO, 3))
async def test_wherever_the_stream_is_cut_into_pieces(cut):
    async with weft(answering(STREAM_HEAD, EVENTS[:cut], EVENTS[cut:]), prefills=[prefilled()]) as rig:
        answer = await rig.ask(post(STREAMED))
        assert answer.body.count(CORRECTED) == 2
        assert REPORTED not in answer.body
        assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_text_that_looks_like_usage_is_left_alone():
    text = r"\"usage\":{\"cached_tokens\":7}"
    async with weft(answering(STREAM_HEAD, delta(text), DONE, END), prefills=[prefilled()]) as rig:
        assert text.encode() in (await rig.ask(post(STREAMED))).body


async def test_a_client_of_http_1_0_gets_the_corrected_stream_without_chunks():
    pieces = (STREAM_HEAD, ROLE, delta("hi"), event(LAST % REPORTED), DONE, END)
    async with weft(answering(*pieces), prefills=[prefilled()]) as rig:
        client = await rig.connect()
        client.send(post(STREAMED, version="1.0"))
        _, headers, _ = await client.head()
        body = await client.rest()
        assert b"transfer-encoding" not in headers
        assert body.endswith(b"data: " + LAST % CORRECTED + b"\n\ndata: [DONE]\n\n")


async def test_an_unstreamed_answer_in_chunks_gets_a_length():
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    whole = answered(0)
    async with weft(answering(head + chunk(whole[:50]), chunk(whole[50:]) + END), prefills=[prefilled()]) as rig:
        answer = await rig.ask(post())
        assert answer.body == answered(CACHED_TOKENS)
        assert int(answer.headers[b"content-length"]) == len(answer.body)


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_an_answer_too_long_to_wait_for_is_passed_on_as_it_is(framing):
    whole = b'{"choices":[{"text":"' + b"x" * 300_000 + b'"}],"usage":' + REPORTED + b"}"
    raw = ok(whole)
    if framing == "chunks":
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        raw = head + chunk(whole) + END
    async with weft(answering(raw), prefills=[prefilled()], prefill_answer_bytes=100_000) as rig:
        client = await rig.connect()
        assert (await client.ask(post())).body == whole
        assert (await client.ask(post())).status == 200


async def test_an_answer_longer_than_is_held_back_otherwise_is_still_corrected():
    long = answered(0).replace(b'"hi"', b'"' + b"x" * 300_000 + b'"')
    async with weft(answering(ok(long)), prefills=[prefilled()]) as rig:
        assert (await rig.ask(post())).body == long.replace(REPORTED, CORRECTED)


async def test_a_decode_replica_s_own_refusal_is_passed_on():
    body = b'{"error":{"message":"max_tokens is too large","type":"BadRequestError","param":"x","code":400}}'
    async with weft(answering(ok(body, status="400 Bad Request")), prefills=[prefilled()]) as rig:
        answer = await rig.ask(post())
        assert (answer.status, answer.body) == (400, body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b'{"model":"m","n":2,"messages":[]}'),
        ("/v1/chat/completions", b'{"model":"m","x":NaN}'),
        ("/v1/embeddings", b'{"model":"m","input":"x"}'),
    ],
)
async def test_a_request_that_cannot_be_split_goes_to_the_decode_replica_as_it_is(path, body):
    async with weft(answering(ok()), prefills=[prefilled()]) as rig:
        assert (await rig.ask(post(body, path))).body == ANSWER
        assert rig.replicas[0].calls[0].body == body
        assert not rig.prefills[0].calls
        assert rig.dispatcher.served_whole == 1
        assert rig.proxy.stats.served_whole == {"one_piece": 1}
        assert rig.proxy.stats.prefill_legs == {}


async def test_without_a_connector_nothing_is_split():
    async with weft(answering(ok()), prefills=[prefilled()]) as rig:
        rig.proxy.connector = None
        assert (await rig.ask(post())).status == 200
        assert rig.replicas[0].calls[0].body == BODY
        assert rig.dispatcher.served_whole == 1


async def test_where_the_engines_share_a_store_both_legs_are_the_request():
    async with weft(answering(ok()), prefills=[answering(ok(ONE_TOKEN))], connector="shared-storage") as rig:
        assert (await rig.ask(post())).body == ANSWER
        assert json.loads(rig.prefills[0].calls[0].body)["max_tokens"] == 1
        assert rig.replicas[0].calls[0].body == BODY
