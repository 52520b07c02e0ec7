"""When the gateway asks the router who may leave."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_world import CONFIG, one_call, part, serve

from router.core.flow import Flow, Mask, Waiting
from router.core.router import Router
from router.core.types import LoadReport, ReplicaSpec
from router.core.view import Candidates, View
from router.profiles import make_profiles
from sim.cluster.call import Call, make_call
from sim.cluster.gateway import Gateway
from sim.cluster.progress import Progress
from sim.cluster.timeline import Timeline
from sim.cluster.tokens import Renderer

IDLE = LoadReport(0, 0, 0.0)


class Door:
    """A gate that is open or shut."""

    name = "door"

    def __init__(self) -> None:
        self.open = True

    def room(self, waiting: Waiting, candidates: Candidates, view: View) -> Mask:
        return np.full(len(candidates.slots), self.open)


class World:
    def __init__(self) -> None:
        self.door, self.timeline = Door(), Timeline()
        self.left: list[Call] = []
        self.router = Router(make_profiles({}), flow=Flow(gate=self.door))
        self.gateway = Gateway(self.router, self.timeline, lambda call, ticket: self.left.append(call))
        self.gateway.add_replica(ReplicaSpec("0", "http://0", models=("m",), block_size_tokens=4))

    def submit(self, name: str) -> Call:
        program = one_call(name, part(1, 9))
        call = make_call(Progress(program, 0.0, Renderer(4)), program.steps[0], 0, 0.0, "m")
        self.gateway.submit(call)
        return call


@pytest.mark.parametrize("news", ["response_started", "response_ended", "on_load"])
def test_what_waits_leaves_as_soon_as_there_may_be_room(news: str) -> None:
    world = World()
    first = world.submit("first")
    world.door.open = False
    second = world.submit("second")
    assert world.left == [first]

    world.door.open = True
    if news == "on_load":
        world.gateway.on_load("0", IDLE)
    else:
        getattr(world.gateway, news)(first)

    assert world.left == [first, second]


def test_nobody_is_asked_for_when_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.submit("only")
    polls: list[float] = []
    monkeypatch.setattr(world.router, "poll", lambda now: polls.append(now) or [])

    world.gateway.on_load("0", IDLE)

    assert polls == []


def test_a_record_tells_when_the_router_sent_the_call_on() -> None:
    (call,) = serve([one_call("a", part(1, 9), arrival_s=2.0)]).calls
    assert call.dispatched_s == 2.0 + CONFIG.proxy_s
    assert call.dispatched_s + CONFIG.network_s == pytest.approx(call.scheduled_s)
