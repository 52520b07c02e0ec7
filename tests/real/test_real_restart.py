"""A replica is killed and comes back while requests flow."""

from __future__ import annotations

import asyncio
import json
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
ROUND_ROBIN = {"x-weft-profile": "round-robin"}


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


async def kill_and_restart(traffic: Traffic, victim: Replica, router: Weft) -> set[str]:
    """Which replicas answered while the victim was dead. Ends when it is up again."""
    await traffic.until(lambda: any(answer.replica == victim.name for answer in traffic.answers))
    await traffic.more(20)
    await asyncio.to_thread(victim.kill)
    await asyncio.to_thread(router.wait_until, lambda: router.health(victim) != "healthy", RESTART_TIMEOUT_S)
    await traffic.more(2 * CLIENTS)
    seen = len(traffic.answers)
    victim.start()
    await traffic.more(50)
    traffic.stopped = True
    await asyncio.to_thread(victim.wait_until_ready)
    return {answer.replica for answer in traffic.answers[seen:]}


async def test_a_replica_dies_and_comes_back(empty_replicas, sessions, weft, http, figure) -> None:
    victim, survivor = empty_replicas
    with weft(empty_replicas, "--tokenizer", str(model_directory("tiny")), config=EVENTS_ALONE) as router:
        stream = await stream_from(victim, http, router)
        traffic = Traffic(router.url, sessions[:6])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.run(http))
            answered_meanwhile = await kill_and_restart(traffic, victim, router)

        events = (await stream.text()).strip().split("\n\n")
        assert "error" in json.loads(events[-2].removeprefix("data: "))
        assert events[-1] == "data: [DONE]"

        broken = [answer for answer in traffic.answers if broken_off(answer)]
        assert traffic.lost == []
        assert [answer for answer in traffic.answers if not answer.is_whole and not broken_off(answer)] == []
        assert {answer.replica for answer in broken} <= {victim.name}
        assert len(broken) <= CLIENTS
        assert answered_meanwhile == {survivor.name}

        router.wait_until(lambda: router.knows_all() and router.index_blocks(victim) == 0, RESTART_TIMEOUT_S)
        tally = await replay(http, router, sessions[:4], "round-robin")
        assert router.index_blocks(victim) > 0
        retries = router.metric("weft_retries_total")
    figure(
        f"{len(traffic.answers)} requests and one long stream: {1 + len(broken)} broken off after the first byte, "
        f"{retries:.0f} retried elsewhere, 0 lost; afterwards {tally}"
    )
    assert tally.exact >= 0.99 * tally.requests


async def test_a_restarted_replica_is_not_routed_to_by_what_it_held_before(
    empty_replicas, sessions, weft, http
) -> None:
    victim = empty_replicas[0]
    with weft(empty_replicas, "--tokenizer", str(model_directory("tiny")), config=EVENTS_ALONE) as router:
        for _ in empty_replicas:
            await ask(http, router.url, chat("tiny", conversation(sessions[0][:1])), ROUND_ROBIN)
        assert router.index_blocks(victim) > 100
        victim.kill()
        router.wait_until(lambda: router.health(victim) != "healthy", RESTART_TIMEOUT_S)
        victim.start()
        victim.wait_until_ready()
        router.wait_until(lambda: router.health(victim) == "healthy", RESTART_TIMEOUT_S)
        assert router.index_blocks(victim) == 0


async def stream_from(replica: Replica, http, router: Weft) -> aiohttp.ClientResponse:
    """An answer of this one of the two replicas that has begun and will not end by itself for a while."""
    body = chat("tiny", [{"role": "user", "content": "Tell me everything."}], 12_000)
    for _ in range(2):
        stream = await http.post(f"{router.url}/v1/chat/completions", json=body, headers=ROUND_ROBIN)
        if stream.headers["x-weft-replica"] == replica.name:
            assert b"error" not in await stream.content.readany()
            return stream
        stream.close()
    raise AssertionError("round robin did not alternate")
