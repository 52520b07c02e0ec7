"""Replicas that Mooncake connects: their bootstrap servers say which engines they are."""

import pytest
from legs_rig import ONE_TOKEN, params, unless_handed_over
from proxy_rig import ANSWER, BODY, Call, Replica, answering, ok, post, silence, weft

from router.core.types import Outcome, ReplicaSpec

ENGINE = ok(b'{"0":{"engine_id":"engine-a","worker_addr":{}}}')
CRASHED = ok(b'{"error":{"message":"no engine-a","code":500}}', status="500 Internal Server Error")


def bootstrapped(rig, index, bootstrap) -> None:
    """Lets a prefill replica be known by the port of its bootstrap server."""
    port = bootstrap.url.rpartition(":")[2]
    prefill = rig.prefills[index]
    rig.dispatcher.prefills[index] = ReplicaSpec(prefill.name, prefill.url, labels={"bootstrap_port": port})


@pytest.fixture
async def bootstrap():
    server = Replica(answering(ENGINE), 0, "bootstrap")
    await server.start()
    yield server
    server.stop()


async def test_it_is_asked_once_and_both_legs_name_one_transfer(bootstrap):
    async with weft(answering(ok()), prefills=[answering(ok(ONE_TOKEN))], connector="mooncake") as rig:
        bootstrapped(rig, 0, bootstrap)
        client = await rig.connect()
        for _ in range(2):
            assert (await client.ask(post())).body == ANSWER
        assert [call.request_line for call in bootstrap.calls] == ["GET /query HTTP/1.1"]
        first = [params(call) for call in rig.prefills[0].calls]
        second = [params(call) for call in rig.replicas[0].calls]
        assert [each["transfer_id"] for each in first] == [each["transfer_id"] for each in second]
        assert first[0]["transfer_id"] != first[1]["transfer_id"]
        assert second[0]["remote_engine_id"] == "engine-a"
        assert second[0]["remote_bootstrap_addr"] == bootstrap.url


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (answering(ok(b"what?")), Outcome.REJECTED),
        (answering(ok(b"x" * 200_000)), Outcome.FAILED),
        (silence, Outcome.TIMEOUT),
    ],
)
async def test_without_it_the_replica_cannot_hand_over(bootstrap, script, outcome):
    bootstrap.script = script
    limits = {"connect_timeout_s": 0.2, "prefill_answer_bytes": 100_000}
    async with weft(answering(ok()), prefills=[silence], connector="mooncake", **limits) as rig:
        bootstrapped(rig, 0, bootstrap)
        assert (await rig.ask(post())).body == ANSWER
        assert rig.replicas[0].calls[0].body == BODY
        assert rig.dispatcher.legs() == [("prefill-0", outcome)]
        assert not rig.prefills[0].calls


async def test_it_is_asked_again_when_nothing_could_be_fetched(bootstrap):
    decode = unless_handed_over(answering(CRASHED), answering(ok()))
    async with weft(decode, prefills=[answering(ok(ONE_TOKEN))], connector="mooncake") as rig:
        bootstrapped(rig, 0, bootstrap)
        client = await rig.connect()
        for _ in range(2):
            assert (await client.ask(post())).body == ANSWER
        assert len(bootstrap.calls) == 2


async def test_an_answer_that_ended_by_itself_has_left_nothing(bootstrap):
    async def script(call: Call) -> None:
        call.send(ok(ONE_TOKEN.replace(b"length", b"stop")))

    async with weft(answering(ok()), prefills=[script], connector="mooncake") as rig:
        bootstrapped(rig, 0, bootstrap)
        assert (await rig.ask(post())).status == 200
        assert rig.replicas[0].calls[0].body == BODY
        assert rig.proxy.stats.served_whole == {"nothing_handed_over": 1}
