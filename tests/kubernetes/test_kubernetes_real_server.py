"""The same against a real kube-apiserver, where one is at hand (KUBEBUILDER_ASSETS)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from real_api_server import RealServer, available, real_api_server
from rights import PODS, pool

from router.engine.discovery.kubernetes import KubernetesDiscovery
from router.engine.discovery.kubernetes_api import Cluster
from router.engine.discovery.kubernetes_follow import Pauses
from router.engine.discovery.kubernetes_pods import PodRules
from router.engine.discovery.kubernetes_state import Wanted
from router.engine.discovery.source import Addresses
from router.engine.trouble import Troubles

pytestmark = pytest.mark.skipif(not available(), reason="needs etcd and kube-apiserver, see KUBEBUILDER_ASSETS")

CORE = "/api/v1/namespaces/default"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
NODE = {"kind": "Node", "name": "n"}
MERGE = "application/merge-patch+json"
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
POOL_KIND = {
    "metadata": {
        "name": "inferencepools.inference.networking.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
    },
    "spec": {
        "group": "inference.networking.k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "InferencePool", "plural": "inferencepools"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": ANYTHING}}],
    },
}


async def create_pod(server: RealServer, name: str, ip: str) -> None:
    spec = {"containers": [{"name": "vllm", "image": "vllm"}], "terminationGracePeriodSeconds": 30}
    await server.call("POST", f"{CORE}/pods", {"metadata": {"name": name, "labels": {"app": "vllm"}}, "spec": spec})
    await server.call("POST", f"{CORE}/pods/{name}/binding", {"metadata": {"name": name}, "target": NODE})
    await say_ready(server, name, "True", ip)


async def say_ready(server: RealServer, name: str, ready: str, ip: str) -> None:
    status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}
    await server.call("PATCH", f"{CORE}/pods/{name}/status", {"status": status}, MERGE)


async def allow(server: RealServer, *rules: dict[str, list[str]]) -> None:
    """What deploy/ grants to Weft, to the user that the test's token is of."""
    await server.call("POST", f"{RBAC}/roles", {"metadata": {"name": "weft"}, "rules": rules})
    binding = {
        "metadata": {"name": "weft"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "weft"},
        "subjects": [{"kind": "User", "name": "weft", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    await server.call("POST", f"{RBAC}/rolebindings", binding)


@dataclass
class Rig:
    """A discovery that speaks to a real server as Weft's user, and what it has told."""

    server: RealServer
    discovery: KubernetesDiscovery
    watch: AsyncGenerator[Addresses, None]

    async def until_problem(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.discovery.problem:
                await asyncio.sleep(0.01)

    async def until_told(self, *urls: str) -> None:
        async with asyncio.timeout(60):
            async for addresses in self.watch:
                if [address.url for address in addresses] == list(urls):
                    return


@asynccontextmanager
async def discovering(directory: Path, wanted: Wanted) -> AsyncIterator[Rig]:
    async with real_api_server(directory) as server:
        cluster = Cluster(server.url, server.weft_token, server.ca_file)
        troubles = Troubles(asyncio.get_running_loop().time)
        discovery = KubernetesDiscovery(cluster, wanted, PodRules(), troubles, Pauses(0.01, 0.1))
        watch = cast(AsyncGenerator[Addresses, None], discovery.watch())
        async with aclosing(watch):
            yield Rig(server, discovery, watch)


async def test_pods_by_label_from_the_first_refusal_to_the_last_pod(tmp_path: Path) -> None:
    async with discovering(tmp_path, Wanted("default", selector="app=vllm")) as rig:
        first = asyncio.ensure_future(anext(rig.watch))
        await rig.until_problem("needs a Role with the verbs list and watch on pods in namespace default")
        await allow(rig.server, PODS)
        assert await first == ()
        await create_pod(rig.server, "a", "10.0.0.1")
        await rig.until_told("http://10.0.0.1:8000")
        await create_pod(rig.server, "b", "10.0.0.2")
        await rig.until_told("http://10.0.0.1:8000", "http://10.0.0.2:8000")
        await rig.server.call("DELETE", f"{CORE}/pods/a")
        await rig.until_told("http://10.0.0.2:8000")
        assert rig.discovery.findings is not None
        assert rig.discovery.findings.left_out == {"a": "terminating"}
        await say_ready(rig.server, "b", "False", "10.0.0.2")
        await rig.until_told()
        await say_ready(rig.server, "b", "True", "10.0.0.2")
        await rig.until_told("http://10.0.0.2:8000")
        await rig.server.call("PATCH", f"{CORE}/pods/b", {"metadata": {"labels": {"app": "debug"}}}, MERGE)
        await rig.until_told()


async def test_a_pool_from_its_first_refusal_to_its_absence(tmp_path: Path) -> None:
    async with discovering(tmp_path, Wanted("default", pool="llama")) as rig:
        first = asyncio.ensure_future(anext(rig.watch))
        await rig.until_problem("needs a Role with the verbs list and watch on inferencepools")
        await allow(rig.server, PODS, pool("llama"))
        await rig.until_problem("inference.networking.k8s.io/v1 is not installed here")
        await rig.server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", POOL_KIND)
        await rig.until_problem("no InferencePool llama")
        assert await first == ()
