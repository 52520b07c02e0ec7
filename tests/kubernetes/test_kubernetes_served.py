"""`weft serve` and `weft check` in front of pods: a simulated API server, simulated replicas, real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import pytest
from kubernetes_stand_in import NAMESPACE, PODS, ApiServer, Object, not_ready, pod, terminating

from router.app import App
from router.commands.check import examine
from router.config import WeftConfig, parse_config
from sim.engine import load_profile
from sim.replica.replica import Replica
from sim.replica.serving import serve_replicas
from sim.replica.settings import Settings


@dataclass
class Cluster:
    """Two replicas, each a pod of its own, and the configuration that finds them."""

    server: ApiServer
    replicas: list[Replica]
    config: WeftConfig

    def pod(self, number: int) -> Object:
        port = str(urlsplit(self.replicas[number].url).port)
        item = pod(f"vllm-{number}", "127.0.0.1")
        return item | {"metadata": item["metadata"] | {"annotations": {"weft/ports": port}}}


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ApiServer())
        settings = Settings(engine=load_profile("laptop-demo").engine, model="m", speed=20.0)
        replicas = await stack.enter_async_context(serve_replicas(2, settings))
        content = {
            "listen": "127.0.0.1:0",
            "kubernetes": [{"selector": "app=vllm", "namespace": NAMESPACE, "api": server.url}],
            "models": {"*": {"tokenizer": "text"}},
        }
        yield Cluster(server, replicas, parse_config(content, "test"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def routable(app: App) -> set[str]:
    fleet = app.router.fleet
    return {spec.url for slot, spec in fleet if fleet.routable[slot]}


async def test_an_answer_goes_on_when_its_pod_terminates_and_the_next_comes_from_another(cluster: Cluster) -> None:
    first, second = (replica.url for replica in cluster.replicas)
    await cluster.server.put(PODS, cluster.pod(0))
    async with App(cluster.config) as app, aiohttp.ClientSession() as client:
        await until(lambda: routable(app) == {first})
        chat = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 300}
        url = f"http://127.0.0.1:{app.listener.port}/v1/chat/completions"
        async with client.post(url, json=chat | {"stream": True, "ignore_eos": True}) as answer:
            await answer.content.readline()
            await cluster.server.put(PODS, terminating(cluster.pod(0)), cluster.pod(1))
            await until(lambda: routable(app) == {second})
            assert app.router.in_flight == 1, "the answer is still under way"
            rest = await answer.content.read()
        assert rest.endswith(b"data: [DONE]\n\n")
        async with client.post(url, json=chat) as answer:
            assert answer.status == 200
            assert second.endswith(answer.headers["x-weft-replica"])


async def test_check_says_which_pods_there_are_and_why_the_others_are_not_used(cluster: Cluster) -> None:
    wrong = cluster.pod(1)
    wrong["metadata"] = wrong["metadata"] | {"name": "wrong", "annotations": {"weft/role": "x"}}
    await cluster.server.put(PODS, cluster.pod(0), not_ready(cluster.pod(1)), wrong)
    findings = {(each.replica, each.subject): each for each in await examine(cluster.config, 5.0)}
    found = findings[f"kubernetes {NAMESPACE}: pods app=vllm", "discovery"]
    assert (found.works, found.text) == (True, "3 pods, 1 of them ready; replicas: 1")
    assert findings["vllm-1", "pod"][2:] == (None, "not ready")
    assert findings["wrong", "pod"].works is False
    assert "role: 'x'; allowed" in findings["wrong", "pod"].text
    assert findings[urlsplit(cluster.replicas[0].url).netloc, "server"].works


async def test_check_says_what_the_api_server_refuses(cluster: Cluster) -> None:
    cluster.server.refuse[PODS] = 403, "pods is forbidden"
    findings = await examine(cluster.config, 1.0)
    assert [each.works for each in findings] == [False, False]
    assert "needs a Role with the verbs list and watch on pods in namespace llm" in findings[0].text
    assert findings[1].text == "names no replica"
