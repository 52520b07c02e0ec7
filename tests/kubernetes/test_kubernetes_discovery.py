"""Replicas found in Kubernetes, over HTTP: as pods come and go, and as the API server misbehaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from kubernetes_stand_in import NAMESPACE, OLD_POOLS, PODS, POOLS, READY, ApiServer, not_ready, pod, terminating

from router.engine.discovery.kubernetes import KubernetesDiscovery
from router.engine.discovery.kubernetes_api import Cluster, ClusterError, own_namespace, this_cluster
from router.engine.discovery.kubernetes_follow import Pauses
from router.engine.discovery.kubernetes_pods import PodRules
from router.engine.discovery.kubernetes_state import Wanted
from router.engine.discovery.source import Addresses
from router.engine.trouble import Troubles

BY_LABEL = Wanted(NAMESPACE, selector="app=vllm")
BY_POOL = Wanted(NAMESPACE, pool="llama")
QUICK = Pauses(0.001, 0.01)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


class Heard:
    """Follows a discovery: the sets of hosts (with ports, where they are not 8000) that it told, in their order."""

    def __init__(
        self, discovery: KubernetesDiscovery, watch: AsyncGenerator[Addresses, None], troubles: Troubles
    ) -> None:
        self.discovery = discovery
        self.troubles = troubles
        self.sets: list[list[str]] = []
        self._watch = watch
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for addresses in self._watch:
            self.sets.append([address.name.removesuffix(":8000") for address in addresses])

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                assert not self.task.done(), self.task.exception()
                await asyncio.sleep(0.001)

    async def says(self, *hosts: str) -> None:
        await self.until(lambda: self.sets and self.sets[-1] == list(hosts))


@asynccontextmanager
async def follow(server: ApiServer, wanted: Wanted = BY_LABEL, **cluster: Any) -> AsyncIterator[Heard]:
    troubles = Troubles(asyncio.get_running_loop().time)
    discovery = KubernetesDiscovery(Cluster(server.url, **cluster), wanted, PodRules(), troubles, QUICK)
    watch = cast(AsyncGenerator[Addresses, None], discovery.watch())
    heard = Heard(discovery, watch, troubles)
    try:
        yield heard
    finally:
        heard.task.cancel()
        await asyncio.gather(heard.task, return_exceptions=True)
        await watch.aclose()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("weft: ")] == []


class TestPods:
    async def test_come_change_and_go(self, server: ApiServer) -> None:
        a, b = pod("a", "10.0.0.1"), pod("b", "10.0.0.2")
        await server.put(PODS, a, not_ready(b), pod("x", "10.0.0.9", labels={"app": "other"}))
        async with follow(server) as heard:
            await heard.says("10.0.0.1")
            await server.put(PODS, b)
            await heard.says("10.0.0.1", "10.0.0.2")
            await server.put(PODS, terminating(a))
            await heard.says("10.0.0.2")
            await server.delete(PODS, "a")
            await server.put(PODS, not_ready(b))
            await heard.says()
            await server.put(PODS, pod("a", "10.0.0.3"))
            await heard.says("10.0.0.3")
        assert heard.troubles.counts == {}
        assert server.requests == [f"list {PODS}", f"watch {PODS}"]

    async def test_that_get_another_label_leave(self, server: ApiServer) -> None:
        await server.put(PODS, pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))
        async with follow(server) as heard:
            await heard.says("10.0.0.1", "10.0.0.2")
            await server.put(PODS, pod("a", "10.0.0.1", labels={"app": "vllm-debug"}))
            await heard.says("10.0.0.2")

    async def test_none_at_all_is_told_once(self, server: ApiServer) -> None:
        async with follow(server) as heard:
            await heard.says()
            await server.put(PODS, not_ready(pod("a", "10.0.0.1")))
            await heard.until(lambda: heard.discovery.findings and heard.discovery.findings.left_out)
        assert heard.sets == [[]]

    async def test_a_pod_that_cannot_be_used_is_noted_once(self, server: ApiServer) -> None:
        wrong = pod("a", "10.0.0.1", metadata={"name": "a", "labels": {"app": "vllm", "weft/ports": "none"}})
        await server.put(PODS, wrong, pod("b", "10.0.0.2"))
        async with follow(server) as heard:
            await heard.says("10.0.0.2")
            await server.put(PODS, pod("c", "10.0.0.3"))
            await heard.says("10.0.0.2", "10.0.0.3")
        assert heard.troubles.counts == {"kubernetes": 1}


class TestPool:
    spec = {"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": [{"number": 8000}]}  # noqa: RUF012

    async def test_names_pods_and_ports_and_may_change_its_mind(self, server: ApiServer) -> None:
        await server.put(PODS, pod("a", "10.0.0.1"), pod("b", "10.0.0.2", labels={"app": "sglang"}))
        await server.put(POOLS, {"metadata": {"name": "llama"}, "spec": self.spec})
        async with follow(server, BY_POOL) as heard:
            await heard.says("10.0.0.1")
            ports = {"targetPorts": [{"number": 8000}, {"number": 8001}]}
            await server.put(POOLS, {"metadata": {"name": "llama"}, "spec": self.spec | ports})
            await heard.says("10.0.0.1", "10.0.0.1:8001")
            other = {"selector": {"matchLabels": {"app": "sglang"}}}
            await server.put(POOLS, {"metadata": {"name": "llama"}, "spec": self.spec | other})
            await heard.says("10.0.0.2")
            await server.put(PODS, pod("c", "10.0.0.3", labels={"app": "sglang"}), pod("d", "10.0.0.4"))
            await heard.says("10.0.0.2", "10.0.0.3")
        assert [] not in heard.sets, "between two selectors the old pods stay"

    async def test_of_the_older_group(self, server: ApiServer) -> None:
        await server.put(PODS, pod("a", "10.0.0.1"))
        await server.put(
            OLD_POOLS, {"metadata": {"name": "llama"}, "spec": {"selector": {"app": "vllm"}, "targetPortNumber": 81}}
        )
        async with follow(server, Wanted(NAMESPACE, pool="llama", pool_group="inference.networking.x-k8s.io")) as heard:
            await heard.says("10.0.0.1:81")

    async def test_that_comes_later_goes_and_comes_back(self, server: ApiServer) -> None:
        await server.put(PODS, pod("a", "10.0.0.1"))
        async with follow(server, BY_POOL) as heard:
            await heard.says()
            assert heard.discovery.problem == "no InferencePool llama in namespace llm"
            for _ in range(2):
                await server.put(POOLS, {"metadata": {"name": "llama"}, "spec": self.spec})
                await heard.says("10.0.0.1")
                assert heard.discovery.problem == ""
                await server.delete(POOLS, "llama")
                await heard.says()

    async def test_with_an_empty_selector_names_nobody(self, server: ApiServer) -> None:
        await server.put(PODS, pod("a", "10.0.0.1"))
        await server.put(POOLS, {"metadata": {"name": "llama"}, "spec": self.spec | {"selector": {"matchLabels": {}}}})
        async with follow(server, BY_POOL) as heard:
            await heard.says()
            assert "its selector is empty" in heard.discovery.problem


class TestServer:
    async def test_that_drops_the_watch_is_watched_on_from_there(self, server: ApiServer) -> None:
        await server.put(PODS, pod("a", "10.0.0.1"))
        server.piece = 7
        async with follow(server) as heard:
            await heard.says("10.0.0.1")
            for number in range(2, 12):
                await server.put(PODS, pod(f"p{number}", f"10.0.0.{number}"))
                await asyncio.sleep(random.uniform(0, 0.002))
                await server.drop()
            await heard.until(lambda: len(heard.sets[-1]) == 11)
        assert server.requests.count(f"list {PODS}") == 1

    async def test_that_has_forgotten_the_version_is_asked_for_all(self, server: ApiServer) -> None:
        await server.put(PODS, pod("a", "10.0.0.1"))
        async with follow(server) as heard:
            await heard.says("10.0.0.1")
            await server.drop()
            await server.put(PODS, pod("b", "10.0.0.2"))
            await server.delete(PODS, "a")
            await server.compact()
            await heard.says("10.0.0.2")
        assert server.requests.count(f"list {PODS}") == 2

    @pytest.mark.parametrize("status", [410, 500, 429])
    async def test_that_refuses_for_a_while_keeps_the_replicas(self, server: ApiServer, status: int) -> None:
        await server.put(PODS, pod("a", "10.0.0.1"))
        async with follow(server) as heard:
            await heard.says("10.0.0.1")
            server.refuse[PODS] = status, "not now"
            await server.drop()
            await heard.until(lambda: heard.troubles.counts["kubernetes"] >= 2)
            assert f"answers {status} for pods in namespace llm: not now" in heard.discovery.problem
            await server.put(PODS, pod("b", "10.0.0.2"))
            server.refuse.clear()
            await heard.says("10.0.0.1", "10.0.0.2")
            assert heard.discovery.problem == ""
        assert heard.sets == [["10.0.0.1"], ["10.0.0.1", "10.0.0.2"]]

    async def test_that_comes_up_late(self, server: ApiServer) -> None:
        await server.put(PODS, pod("a", "10.0.0.1"))
        late = Cluster("http://127.0.0.1:1")
        troubles = Troubles(asyncio.get_running_loop().time)
        discovery = KubernetesDiscovery(late, BY_LABEL, PodRules(), troubles, QUICK)
        heard = Heard(discovery, cast(AsyncGenerator[Addresses, None], discovery.watch()), troubles)
        await heard.until(lambda: troubles.counts["kubernetes"] > 2)
        assert "http://127.0.0.1:1: Cannot connect" in discovery.problem
        assert discovery.findings is None
        heard.task.cancel()

    @pytest.mark.parametrize(
        ("wanted", "path", "refusal", "said"),
        [
            (
                BY_LABEL,
                PODS,
                (403, 'pods is forbidden: User "weft" cannot list resource "pods"'),
                [
                    'answers 403 for pods in namespace llm: pods is forbidden: User "weft" cannot list',
                    "needs a Role with the verbs list and watch on pods in namespace llm",
                ],
            ),
            (
                BY_POOL,
                POOLS,
                (403, "forbidden"),
                ["verbs list and watch on inferencepools.inference.networking.k8s.io in namespace llm"],
            ),
            (BY_LABEL, PODS, (401, "Unauthorized"), ["answers 401", "is the token of Weft's service account mounted"]),
            (BY_POOL, POOLS, (404, "404 page not found"), ["inference.networking.k8s.io/v1 is not installed here"]),
            (BY_LABEL, PODS, (400, "unable to parse requirement"), ["answers 400", "unable to parse requirement"]),
        ],
    )
    async def test_that_refuses_says_why_and_what_to_do(
        self, server: ApiServer, wanted: Wanted, path: str, refusal: tuple[int, str], said: list[str]
    ) -> None:
        server.refuse[path] = refusal
        async with follow(server, wanted) as heard:
            await heard.until(lambda: heard.discovery.problem)
            for part in said:
                assert part in heard.discovery.problem
        assert heard.sets == []

    def test_that_refuses_is_asked_less_and_less_often(self) -> None:
        pauses = [Pauses(1.0, 8.0).after(mishaps) for mishaps in (1, 2, 3, 4, 5, 1000)]
        for pause, longest in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True):
            assert longest / 2 <= pause <= longest

    @pytest.mark.parametrize("seed", range(5))
    async def test_whatever_happens_the_replicas_are_those_that_it_has(self, server: ApiServer, seed: int) -> None:
        chance = random.Random(seed)
        server.piece = chance.choice([3, 50, 1 << 16])
        async with follow(server, BY_POOL) as heard:
            for _ in range(150):
                await _something(server, chance)
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.uniform(0, 0.002))
            await heard.says(*_served(server))


async def _something(server: ApiServer, chance: random.Random) -> None:
    what = chance.choice(["pod"] * 6 + ["delete pod"] * 3 + ["pool", "pool", "delete pool", "drop", "drop", "compact"])
    kind = chance.choice([not_ready, terminating, dict, dict])
    name = chance.choice("abcde")
    if what == "pod":
        await server.put(PODS, kind(pod(name, f"10.0.0.{ord(name)}", labels={"app": chance.choice(["x", "y"])})))
    elif what == "pool":
        spec = {"selector": {"app": chance.choice(["x", "y"])}, "targetPortNumber": chance.choice([8000, 8001])}
        await server.put(POOLS, {"metadata": {"name": "llama"}, "spec": spec})
    elif what == "drop":
        await server.drop()
    elif what == "compact":
        await server.compact()
    elif chosen := server.objects(PODS if what == "delete pod" else POOLS):
        await server.delete(PODS if what == "delete pod" else POOLS, chance.choice(chosen)["metadata"]["name"])


def _served(server: ApiServer) -> list[str]:
    """What the pool names, by its plainest reading."""
    return sorted(
        item["status"]["podIP"] + (f":{pool['spec']['targetPortNumber']}".removesuffix(":8000"))
        for pool in server.objects(POOLS)
        for item in server.objects(PODS)
        if item["metadata"]["labels"] == pool["spec"]["selector"]
        and item["status"]["conditions"] == READY
        and "deletionTimestamp" not in item["metadata"]
    )


class TestCredentials:
    async def test_the_token_is_read_again_for_each_request(self, server: ApiServer, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text("first\n")
        server.token = "first"
        await server.put(PODS, pod("a", "10.0.0.1"))
        async with follow(server, token_file=token) as heard:
            await heard.says("10.0.0.1")
            server.token = "second"
            await server.drop()
            await heard.until(lambda: "answers 401" in heard.discovery.problem)
            token.write_text("second\n")
            await server.put(PODS, pod("b", "10.0.0.2"))
            await heard.says("10.0.0.1", "10.0.0.2")

    @pytest.mark.parametrize("key", ["token_file", "ca_file"])
    async def test_a_file_that_is_not_there_is_named(self, server: ApiServer, tmp_path: Path, key: str) -> None:
        async with follow(server, **{key: tmp_path / "absent"}) as heard:
            await heard.until(lambda: heard.discovery.problem)
            assert f"{key}: {tmp_path / 'absent'}" in heard.discovery.problem

    def test_a_pod_finds_them_where_every_pod_does(self, tmp_path: Path) -> None:
        (tmp_path / "namespace").write_text("llm\n")
        environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
        assert this_cluster(environment, tmp_path) == Cluster(
            "https://[fd00::1]:6443", tmp_path / "token", tmp_path / "ca.crt"
        )
        assert own_namespace(tmp_path) == "llm"

    def test_elsewhere_they_must_be_named(self, tmp_path: Path) -> None:
        with pytest.raises(ClusterError, match=r"^api: .* name the API server"):
            this_cluster({}, tmp_path)
        with pytest.raises(ClusterError, match=r"^namespace: .* must be named"):
            own_namespace(tmp_path)
