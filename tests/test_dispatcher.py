"""The clock beside the Router: tickets out, errors in the clients' words, nothing left when requests vanish."""

import asyncio

import pytest

from router.core.router import Router, RouterSettings
from router.core.types import Health, Outcome, ReplicaSpec, Request
from router.dispatcher import Dispatcher
from router.errors import ApiError
from router.profiles import make_profiles


@pytest.fixture
def router():
    router = Router(make_profiles({}), RouterSettings(in_flight_timeout_s=0.05))
    router.on_replica(ReplicaSpec(name="a", url="http://a", models=("m",)), 0.0)
    router.on_health("a", Health.HEALTHY, 0.0)
    return router


@pytest.fixture
def noted():
    return []


@pytest.fixture
async def dispatcher(router, noted):
    dispatcher = Dispatcher(router, asyncio.get_running_loop().time, lambda *told: noted.append(told))
    yield dispatcher
    dispatcher.close()


async def test_a_request_gets_its_ticket_at_once(dispatcher, router, noted):
    ticket = await dispatcher.route(Request(id="1", model="m"))
    assert ticket.decision.replica.name == "a"
    dispatcher.response_started(ticket)
    dispatcher.response_ended(ticket, Outcome.OK)
    assert router.in_flight == 0
    assert noted == [("a", Outcome.OK)]


async def test_an_unknown_model_is_a_404_in_openais_shape(dispatcher):
    with pytest.raises(ApiError) as error:
        await dispatcher.route(Request(id="1", model="gpt"))
    assert error.value.status == 404
    assert b'"code":"model_not_found"' in error.value.body()
    assert b'"param":"model"' in error.value.body()


async def test_no_healthy_replica_is_a_503_that_says_when_to_come_back(dispatcher, router):
    router.on_health("a", Health.UNHEALTHY, 0.0)
    with pytest.raises(ApiError) as error:
        await dispatcher.route(Request(id="1", model="m"))
    assert (error.value.status, error.value.retry_after_s) == (503, router.settings.retry_after_s)


async def test_a_request_whose_end_is_never_told_is_given_up_without_another_one_coming(dispatcher, router):
    await dispatcher.route(Request(id="1", model="m"))
    async with asyncio.timeout(5):
        while router.in_flight:
            await asyncio.sleep(0.01)
    assert router.stats.timed_out_in_flight == 1
