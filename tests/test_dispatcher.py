"""The clock beside the Router: tickets out, errors in the clients' words, nothing left when requests vanish."""

import asyncio
from itertools import count

import numpy as np
import pytest

from flow.disaggregation.min_uncached import MinUncached
from flow.gates.step_budget import StepBudget
from flow.orders.critical_path import CriticalPath
from router.admin.programs import ProgramsApi
from router.core.disaggregation.settings import Disaggregation
from router.core.flow import Flow, QueueLimits
from router.core.programs.tracker import Programs
from router.core.router import Router, RouterSettings
from router.core.types import Health, LoadReport, Outcome, ProgramHint, Prompt, ReplicaSpec, Request, Role
from router.dispatcher import Dispatcher
from router.errors import ApiError
from router.feed import Feed
from router.hints.settings import IdentitySettings
from router.profiles import make_profiles
from router.proxy.ports import LocalRequest


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


async def test_a_decision_that_needs_no_waiting_can_be_had_without(dispatcher, router):
    ticket = dispatcher.submit(Request(id="1", model="m"))
    assert ticket.decision.replica.name == "a"
    await dispatcher.wait(ticket)
    with pytest.raises(ApiError):
        dispatcher.submit(Request(id="2", model="gpt"))


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


class OneEach:
    """A gate that lets a replica work on one request at a time."""

    name = "one-each"

    def room(self, waiting, candidates, view):
        return view.queued_requests + view.running_requests == 0


class Backwards:
    """An order: last come, first served."""

    name = "backwards"

    def __init__(self):
        self._numbers = count()

    def rank(self, waiting, now):
        return (-next(self._numbers),)


class Queue:
    """A dispatcher before one replica that takes one request at a time, and those who ask it."""

    def __init__(self, order=None, **limits):
        flow = Flow(gate=OneEach(), limits=QueueLimits(**limits))
        flow.order = order or flow.order
        self.router = Router(make_profiles({}), flow=flow)
        self.router.on_replica(ReplicaSpec(name="a", url="http://a", models=("m",)), 0.0)
        self.router.on_health("a", Health.HEALTHY, 0.0)
        loop = asyncio.get_running_loop()
        self.dispatcher = Dispatcher(self.router, loop.time)
        self.feed = Feed(self.router, self.dispatcher.replicas_changed, lambda name: None)
        self.left = []

    def ask(self, name):
        """Waits in a task of its own; who leaves is noted."""
        return asyncio.create_task(self._ask(name))

    async def _ask(self, name):
        ticket = await self.dispatcher.route(Request(name, "m"))
        self.left.append(name)
        return ticket


@pytest.fixture
async def make_queue():
    made = []

    def make(*parts, **limits):
        made.append(Queue(*parts, **limits))
        return made[-1]

    yield make
    for queue in made:
        queue.dispatcher.close()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_who_finds_no_room_waits_until_somebody_ends(make_queue):
    queue = make_queue()
    first = await queue.ask("first")
    second = queue.ask("second")
    await until(lambda: queue.router.waiting == 1)
    assert not second.done()
    queue.dispatcher.response_ended(first, Outcome.OK)
    assert (await second).decision.replica.name == "a"


async def test_those_who_wait_leave_in_the_order_of_the_queue(make_queue):
    queue = make_queue(Backwards())
    ticket = await queue.ask("running")
    asked = {name: queue.ask(name) for name in "abc"}
    await until(lambda: queue.router.waiting == 3)
    for name in "cba":
        queue.dispatcher.response_ended(ticket, Outcome.OK)
        ticket = await asked[name]
    assert queue.left == ["running", "c", "b", "a"]


async def test_an_answer_that_begins_lets_the_next_one_in(make_queue):
    queue = make_queue()

    def room(waiting, candidates, view):
        return view.queued_requests == 0

    queue.router._flow.gate.room = room
    ticket = await queue.ask("prefills")
    second = queue.ask("second")
    await until(lambda: queue.router.waiting == 1)
    queue.dispatcher.response_started(ticket)
    await second


@pytest.mark.parametrize(
    "tell",
    [
        lambda feed, now: feed.on_load("b", LoadReport(0, 0, 0.0), now),
        lambda feed, now: feed.on_index_reset("b", now),
        lambda feed, now: feed.on_health("b", Health.HEALTHY, now),
    ],
)
async def test_what_is_heard_of_replicas_lets_in_who_waits(make_queue, tell):
    queue = make_queue()
    await queue.ask("running")
    second = queue.ask("second")
    await until(lambda: queue.router.waiting == 1)
    queue.router.on_replica(ReplicaSpec(name="b", url="http://b", models=("m",)), 0.0)
    queue.router.on_health("b", Health.HEALTHY, 0.0)
    tell(queue.feed, asyncio.get_running_loop().time())
    async with asyncio.timeout(5):
        assert (await second).decision.replica.name == "b"


async def test_a_replica_that_leaves_refuses_who_waited_for_it(make_queue):
    queue = make_queue()
    await queue.ask("running")
    second = queue.ask("second")
    await until(lambda: queue.router.waiting == 1)
    queue.feed.on_replica_gone("a", 0.0)
    async with asyncio.timeout(5):
        with pytest.raises(ApiError) as error:
            await second
    assert error.value.code == "no_replica"


async def test_a_client_that_goes_while_it_waits_takes_its_request_along(make_queue):
    queue = make_queue()
    first = await queue.ask("first")
    gone, stays = queue.ask("gone"), queue.ask("stays")
    await until(lambda: queue.router.waiting == 2)
    gone.cancel()
    await asyncio.wait([gone])
    assert (queue.router.waiting, queue.router.stats.withdrawn) == (1, 1)
    queue.dispatcher.response_ended(first, Outcome.OK)
    await stays
    assert queue.left == ["first", "stays"]


async def test_a_client_that_goes_in_the_moment_in_which_it_leaves_frees_the_replica(make_queue):
    queue = make_queue()
    first = await queue.ask("first")
    gone, next_one = queue.ask("gone"), queue.ask("next")
    await until(lambda: queue.router.waiting == 2)
    queue.dispatcher.response_ended(first, Outcome.OK)
    queue.dispatcher._poll()
    assert queue.router.in_flight == 1
    gone.cancel()
    await next_one
    assert gone.cancelled()
    assert queue.router.stats.ended[Outcome.CLIENT_GONE] == 1


async def test_the_queue_has_an_end(make_queue):
    queue = make_queue(max_waiting=1)
    await queue.ask("running")
    queue.ask("waits")
    with pytest.raises(ApiError) as error:
        await queue.ask("one too many")
    assert (error.value.status, error.value.code, error.value.type) == (503, "queue_full", "service_unavailable")
    assert error.value.retry_after_s >= 1


async def test_a_tenant_that_has_too_many_waiting_is_told_429(make_queue):
    queue = make_queue(max_waiting_per_tenant=0)
    await queue.ask("running")
    with pytest.raises(ApiError) as error:
        await queue.ask("one too many")
    assert (error.value.status, error.value.code, error.value.type) == (429, "tenant_queue_full", "rate_limit_error")


async def test_who_waits_too_long_is_told_without_anything_else_happening(make_queue):
    queue = make_queue(max_wait_s=0.02)
    await queue.ask("running")
    async with asyncio.timeout(5):
        with pytest.raises(ApiError) as error:
            await queue.ask("waits")
    assert (error.value.status, error.value.code) == (503, "queue_timeout")
    assert queue.router.waiting == 0


async def test_a_shutdown_turns_away_who_waits_and_whoever_would(make_queue):
    queue = make_queue()
    await queue.ask("running")
    waiting = queue.ask("waits")
    await until(lambda: queue.router.waiting == 1)
    queue.dispatcher.drain()
    for asked in (waiting, queue.ask("late")):
        with pytest.raises(ApiError) as error:
            await asked
        assert (error.value.status, error.value.code) == (503, "shutting_down")
    assert queue.router.waiting == 0


async def test_a_thousand_come_and_go_and_everybody_gets_an_end(make_queue):
    queue = make_queue(max_waiting=300)

    async def client(number):
        try:
            ticket = await queue.dispatcher.route(Request(str(number), "m"))
        except ApiError as error:
            return error.code
        await asyncio.sleep(0)
        queue.dispatcher.response_started(ticket)
        queue.dispatcher.response_ended(ticket, Outcome.OK)
        return "ok"

    random = np.random.default_rng(0)
    clients = [asyncio.create_task(client(number)) for number in range(1000)]
    for number in random.choice(1000, 200, replace=False):
        await asyncio.sleep(0)
        clients[number].cancel()
    async with asyncio.timeout(10):
        ends = await asyncio.gather(*clients, return_exceptions=True)
    assert {str(end) for end in ends if not isinstance(end, BaseException)} == {"ok", "queue_full"}
    assert (queue.router.waiting, queue.router.in_flight) == (0, 0)
    assert queue.router.room.bounds.by_tenant == {}


async def test_a_graph_that_is_declared_changes_the_places_of_those_who_wait():
    """Over HTTP it is `PUT /v1/programs/{id}`."""
    flow, programs = Flow(CriticalPath(), gate=OneEach()), Programs()
    router = Router(make_profiles({}), flow=flow, programs=programs)
    router.on_replica(ReplicaSpec(name="a", url="http://a", models=("m",)), 0.0)
    router.on_health("a", Health.HEALTHY, 0.0)
    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(router, loop.time)
    api = ProgramsApi(programs, IdentitySettings(), loop.time, dispatcher.program_declared)
    left = []

    async def ask(name, remaining_steps):
        hint = ProgramHint(name, step="first", remaining_steps=remaining_steps)
        ticket = await dispatcher.route(Request(name, "m", Prompt(np.zeros(5000, np.uint32)), program=hint))
        left.append(name)
        dispatcher.response_ended(ticket, Outcome.OK)

    running = await dispatcher.route(Request("running", "m"))
    asked = [asyncio.create_task(ask(name, steps)) for name, steps in (("known", 9), ("told", 30))]
    await until(lambda: router.waiting == 2)
    graph = b'{"steps": [{"name": "first", "output_tokens": 10}]}'
    await api.answer(LocalRequest("PUT", "/told", "", [], graph))
    dispatcher.response_ended(running, Outcome.OK)
    await asyncio.gather(*asked)
    assert left == ["told", "known"]
    dispatcher.close()


async def test_a_prompt_that_is_not_computed_elsewhere_after_all_makes_room_for_one_that_is():
    profiles = make_profiles({})
    disaggregation = Disaggregation(MinUncached(512), profiles["prefill"])
    router = Router(profiles, flow=Flow(gate=StepBudget(1.0, 1000)), disaggregation=disaggregation)
    for name, role in (("p", Role.PREFILL), ("d", Role.DECODE), ("e", Role.DECODE)):
        router.on_replica(ReplicaSpec(name=name, url=f"http://{name}", models=("m",), role=role), 0.0)
        router.on_health(name, Health.HEALTHY, 0.0)
    dispatcher = Dispatcher(router, asyncio.get_running_loop().time)
    long = [Request(id=str(number), model="m", prompt=Prompt(np.full(1600, number, np.uint32))) for number in range(2)]
    first = await dispatcher.route(long[0])
    second = asyncio.ensure_future(dispatcher.route(long[1]))
    await until(lambda: router.waiting == 1)
    dispatcher.serve_whole(first)
    async with asyncio.timeout(5):
        assert (await second).prefill.decision.replica.name == "p"
    dispatcher.close()
