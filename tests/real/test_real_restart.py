"""A replica is killed and comes back while requests flow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from real_client import Answer, ask
from real_traces import Turn, conversation
from replicas import Replica, model_directory
from test_real_predictions import EVENTS_ALONE, chat, replay
from weft_process import Weft

CLIENTS = 6
ANSWER_TOKENS = 48
RESTART_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Traffic:
    """Clients that go through conversations again and again, half of them streaming, until told to stop."""

    url: str
    sessions: list[list[Turn]]
    answers: list[Answer] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Requests whose connection broke."""
    stopped: bool = False

    async def run(self, http: aiohttp.ClientSession) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._client(http, number))

    async def _client(self, http: aiohttp.ClientSession, number: int) -> None:
        streams = number % 2 == 0
        turns = self.sessions[number % len(self.sessions)]
        end = 0
        while not self.stopped:
            end = end % min(len(turns), 6) + 1
            body = chat("tiny", conversation(turns[:end]), ANSWER_TOKENS)
            if not streams:
                del body["stream"], body["stream_options"]
            try:
                self.answers.append(await ask(http, self.url, body))
            except aiohttp.ClientError as error:
                self.lost.append(f"{type(error).__name__}: {error}")

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.02)

    async def more(self, count: int) -> None:
        """Until so many more requests have been answered."""
        target = len(self.answers) + count
        await self.until(lambda: len(self.answers) >= target)


def broken_off(answer: Answer) -> bool:
    """It had begun, and ended with an error event: what a client must expect of a replica that dies."""
    return answer.status == 200 and bool(answer.error)


async def kill_and_restart(traffic: Traffic, victim: Replica, router: Weft) -> list[str]:
    """What is seen of the victim: served before, left alone while it is dead, served again."""
    await traffic.until(lambda: any(answer.replica == victim.name for answer in traffic.answers))
    await traffic.more(20)
    await asyncio.to_thread(victim.kill)
    await asyncio.to_thread(router.wait_until, lambda: router.health(victim) != "healthy", RESTART_TIMEOUT_S)
    await traffic.more(2 * CLIENTS)
    while_dead = len(traffic.answers)
    await traffic.more(20)
    replicas_while_dead = [answer.replica for answer in traffic.answers[while_dead:]]
    victim.start()
    await asyncio.to_thread(victim.wait_until_ready)
    await asyncio.to_thread(router.wait_until, router.knows_all, RESTART_TIMEOUT_S)
    await traffic.until(lambda: traffic.answers[-1].replica == victim.name)
    traffic.stopped = True
    return replicas_while_dead


async def test_a_replica_dies_and_comes_back(empty_replicas, sessions, weft, http, figure) -> None:
    victim = empty_replicas[0]
    with weft(empty_replicas, "--tokenizer", str(model_directory("tiny")), config=EVENTS_ALONE) as router:
        only_before = await conversation_held_by(victim, http, router, sessions[6:])
        held_before = router.index_blocks(victim)
        assert held_before > 50
        traffic = Traffic(router.url, sessions[:6])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.run(http))
            replicas_while_dead = await kill_and_restart(traffic, victim, router)
        await asyncio.to_thread(router.wait_until, router.knows_all, RESTART_TIMEOUT_S)

        broken = [answer for answer in traffic.answers if broken_off(answer)]
        others = [answer for answer in traffic.answers if not broken_off(answer)]
        assert traffic.lost == []
        assert [answer for answer in others if not answer.is_whole] == []
        assert {answer.replica for answer in broken} <= {victim.name}
        assert len(broken) <= CLIENTS
        assert set(replicas_while_dead) == {empty_replicas[1].name}

        forgotten = await two_answers(http, router, only_before)
        assert forgotten[victim.name].predicted_tokens == forgotten[victim.name].cached_tokens == 0
        tally = await replay(http, router, sessions[8:12], "round-robin")
        retries = router.metric("weft_retries_total")
    figure(
        f"{len(traffic.answers)} requests: {len(broken)} broken off after their first byte, "
        f"{retries:.0f} retried elsewhere, 0 lost; afterwards {tally}"
    )
    assert tally.exact >= 0.99 * tally.requests


async def conversation_held_by(victim: Replica, http, router: Weft, sessions: list[list[Turn]]) -> list[Turn]:
    """The first turn of a conversation that only ``victim`` has seen."""
    for turns in sessions:
        answer = await ask(http, router.url, chat("tiny", conversation(turns[:1])))
        if answer.replica == victim.name:
            return turns[:1]
    raise AssertionError("the router sent no conversation to this replica")


async def two_answers(http, router: Weft, turns: list[Turn]) -> dict[str, Answer]:
    """The same request once to each of the two replicas."""
    body = chat("tiny", conversation(turns))
    answers = [await ask(http, router.url, body, {"x-weft-profile": "round-robin"}) for _ in range(2)]
    return {answer.replica: answer for answer in answers}
