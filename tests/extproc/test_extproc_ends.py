"""How requests end of which nothing more is seen: by the access log, by what replicas say, and never leaking."""

import pytest
from extproc_rig import Pod, chat, log_entry, log_message, serving, until

from router.core.types import Outcome


async def told(gateway, *entries):
    """The access log says this."""
    log = gateway.open_log()
    before = sum(gateway.rig.stats.statuses.values())
    await log.write(log_message(*entries))
    await until(lambda: sum(gateway.rig.stats.statuses.values()) == before + len(entries))
    return log


@pytest.mark.parametrize(
    ("status", "flags", "outcome"),
    [
        (200, {}, Outcome.OK),
        (404, {}, Outcome.OK),
        (200, {"downstream_connection_termination": True}, Outcome.CLIENT_GONE),
        (0, {"downstream_remote_reset": True}, Outcome.CLIENT_GONE),
        (503, {"upstream_connection_failure": True}, Outcome.FAILED),
        (200, {"upstream_remote_reset": True}, Outcome.FAILED),
        (500, {}, Outcome.FAILED),
        (503, {}, Outcome.REJECTED),
        (504, {"upstream_request_timeout": True}, Outcome.TIMEOUT),
        (200, {"stream_idle_timeout": True}, Outcome.TIMEOUT),
    ],
)
async def test_the_access_log_tells_how_a_request_ended(status, flags, outcome):
    async with serving(Pod()) as gateway:
        await gateway.post()
        assert gateway.rig.in_flight == 1
        await told(gateway, log_entry(status=status, **flags))
        assert gateway.rig.in_flight == 0
        assert gateway.rig.noted == [("10.0.0.1:8000", outcome)]
        stats = gateway.rig.stats
        assert dict(stats.logged) == {outcome.value: 1}
        assert (stats.request_bytes, stats.response_bytes, dict(stats.statuses)) == (100, 2000, {status: 1})
        assert (stats.head_s.total, stats.duration_s.total) == (0.25, 1.5)


async def test_entries_before_the_end_end_nothing():
    async with serving(Pod()) as gateway:
        await gateway.post()
        started, periodic, end = (log_entry(kind=kind) for kind in (4, 5, 6))
        await told(gateway, end)
        await gateway.post()
        log = await told(gateway, log_entry("other"))
        await log.write(log_message(started, periodic))
        await told(gateway, log_entry("another"))
        assert gateway.rig.in_flight == 1


async def test_an_older_envoy_does_not_say_that_an_entry_is_the_end():
    async with serving(Pod()) as gateway:
        await gateway.post()
        await told(gateway, log_entry(kind=0))
        assert gateway.rig.in_flight == 0


async def test_entries_of_others_are_counted_and_nothing_else():
    async with serving(Pod()) as gateway:
        await gateway.post()
        await told(gateway, log_entry("stranger"), log_entry(), log_entry())
        assert (gateway.rig.in_flight, gateway.rig.stats.unmatched) == (0, 2)


async def test_an_id_used_twice_ends_the_request_that_went_to_the_logged_endpoint():
    async with serving(Pod(), Pod()) as gateway:
        endpoints = {(await gateway.post(chat("x" * 4000))).endpoint}
        while len(endpoints) < 2:
            endpoints.add((await gateway.post(chat("other" * 4000))).endpoint)
        count = gateway.rig.in_flight
        await told(gateway, log_entry(endpoint="10.0.0.2:8000"))
        assert gateway.rig.noted == [("10.0.0.2:8000", Outcome.OK)]
        await told(gateway, *[log_entry(endpoint="10.0.0.1:8000")] * (count - 1))
        assert gateway.rig.in_flight == 0


async def test_who_was_passed_over_is_to_blame():
    async with serving(Pod(), Pod(9)) as gateway:
        await gateway.post()
        await told(gateway, log_entry(endpoint="10.0.0.2:8000"))
        assert gateway.rig.stats.served_elsewhere == 1
        assert gateway.rig.noted == [("10.0.0.1:8000", Outcome.OK), ("10.0.0.1:8000", Outcome.FAILED)]


async def test_without_a_log_replicas_show_that_requests_are_over():
    async with serving(Pod()) as gateway:
        for _ in range(5):
            await gateway.post()
        rig = gateway.rig
        rig.report(0, 0, 0)
        assert rig.in_flight == 5, "they may still be on their way"
        rig.now_s += 6
        rig.report(0, 1, 2)
        assert (rig.in_flight, rig.stats.presumed_over) == (3, 2)
        await gateway.post()
        rig.report(0, 0, 0)
        assert rig.in_flight == 1, "the one just sent"


async def test_with_a_log_replicas_are_believed_later():
    async with serving(Pod()) as gateway:
        await told(gateway, log_entry("other"))
        await gateway.post()
        gateway.rig.now_s += 6
        gateway.rig.report(0, 0, 0)
        assert gateway.rig.in_flight == 1
        gateway.rig.now_s += 60
        gateway.rig.report(0, 0, 0)
        assert gateway.rig.in_flight == 0


async def test_without_any_report_the_router_gives_up_and_nothing_is_kept():
    async with serving(Pod(), router={"in_flight_timeout_s": 100.0}) as gateway:
        rig = gateway.rig
        await gateway.post()
        rig.now_s += 101
        await gateway.post(headers={"x-request-id": "2"})
        assert rig.in_flight == 1
        rig.picking._ends.expire()
        assert len(rig.picking._ends.outstanding) == 1


async def test_a_replica_that_left_takes_its_requests_along():
    async with serving(Pod(), Pod(9)) as gateway:
        await gateway.post()
        gateway.rig.feed.on_replica_gone("10.0.0.1:8000", 0.0)
        await told(gateway, log_entry())
        assert gateway.rig.in_flight == 0
        assert (await gateway.post()).endpoint == "10.0.0.2:8000"


CRITICAL = {"queue": {"order": "critical-path"}, "programs": {"enabled": True}, "identity": {"max_priority": 9}}
URGENT = {"x-program-id": "p", "x-program-priority": "5"}


async def priority_of(gateway, request_id):
    decided = await gateway.post(headers=URGENT | {"x-request-id": request_id})
    return int(decided.set.get("x-vllm-priority", "0"))


async def test_an_engine_that_answers_400_to_a_priority_is_told_none_any_more():
    async with serving(Pod(), **CRITICAL) as gateway:
        assert await priority_of(gateway, "1") != 0
        await told(gateway, log_entry("1", 400))
        assert await priority_of(gateway, "2") == 0
        assert gateway.rig.stats.priorities_refused == 1


async def test_an_engine_that_took_a_priority_may_answer_400_for_other_reasons():
    async with serving(Pod(), **CRITICAL) as gateway:
        for number, status in enumerate((200, 400)):
            assert await priority_of(gateway, str(number)) != 0
            await told(gateway, log_entry(str(number), status))
        assert await priority_of(gateway, "3") != 0


async def test_metrics_show_all_of_it():
    async with serving(Pod()) as gateway:
        await gateway.post()
        await gateway.post(b"{")
        await told(gateway, log_entry())
        samples = {s.name: s.value for family in gateway.rig.picking.metrics() for s in family.samples if not s.labels}
        assert samples["weft_extproc_streams_total"] == 2
        assert samples["weft_extproc_requests_sent_total"] == 1
        assert samples["weft_extproc_access_logs"] == 1
        assert samples["weft_extproc_duration_seconds_sum"] == 1.5
