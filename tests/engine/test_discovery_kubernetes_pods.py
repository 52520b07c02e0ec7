"""Which pods may serve, where, and what they say of themselves; what an InferencePool says of its pods."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.types import Role
from router.engine.discovery.address import ReplicaAddress
from router.engine.discovery.kubernetes_pods import Findings, Pod, PodRules, find_replicas
from router.engine.discovery.kubernetes_pool import InferencePool, PoolError, Target, target_of
from router.engine.discovery.kubernetes_state import KubernetesState, Wanted

READY = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]


def pod(name: str = "a", ip: str = "10.0.0.1", **changes: Any) -> dict[str, Any]:
    ports = [{"containerPort": 8000, "name": "http"}, {"containerPort": 9000, "name": "metrics"}]
    metadata = {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"} | changes.pop("metadata", {})
    content = {
        "metadata": metadata,
        "spec": {"containers": [{"name": "vllm", "ports": ports}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": READY},
    }
    return content | changes


def found(*pods: dict[str, Any], **rules: Any) -> Findings:
    return find_replicas([msgspec.convert(each, Pod) for each in pods], PodRules(**rules))


def annotated(**annotations: str) -> dict[str, Any]:
    return pod(metadata={"annotations": {key.replace("__", "/"): value for key, value in annotations.items()}})


def only(*pods: dict[str, Any], **rules: Any) -> ReplicaAddress:
    (address,) = found(*pods, **rules).addresses
    return address


class TestWhichPods:
    def test_a_ready_pod_serves_at_port_8000(self) -> None:
        assert found(pod()) == Findings((ReplicaAddress("http://10.0.0.1:8000"),), {}, frozenset())

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"status": {"phase": "Pending"}}, "not ready"),
            ({"status": {"phase": "Running", "podIP": "10.0.0.1"}}, "not ready"),
            ({"status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "False"}]}}, "not ready"),
            ({"status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "Unknown"}]}}, "not ready"),
            ({"status": {"conditions": READY}}, "no address yet"),
            ({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:30Z"}}, "terminating"),
        ],
    )
    def test_one_that_is_not_is_left_out(self, change: dict[str, Any], reason: str) -> None:
        assert found(pod(**change)) == Findings((), {"a": reason}, frozenset())

    def test_they_come_in_the_order_of_their_addresses(self) -> None:
        urls = [each.url for each in found(pod("b", "10.0.0.2"), pod("c", "10.0.0.1"), pod("a", "fd00::1")).addresses]
        assert urls == ["http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://[fd00::1]:8000"]

    def test_of_two_with_one_address_the_newer_serves(self) -> None:
        newer = {"creationTimestamp": "2026-01-02T00:00:00Z", "annotations": {"weft/model": "new"}}
        for pods in ([pod("a"), pod("b", metadata=newer)], [pod("b", metadata=newer), pod("a")]):
            findings = found(*pods)
            assert [each.model for each in findings.addresses] == ["new"]
            assert findings.left_out == {"a": "10.0.0.1:8000 is the address of another pod, too"}


class TestPorts:
    def test_by_number_and_by_name(self) -> None:
        urls = [each.url for each in found(pod(), ports=(8001, "metrics"), scheme="https").addresses]
        assert urls == ["https://10.0.0.1:8001", "https://10.0.0.1:9000"]

    def test_of_a_sidecar(self) -> None:
        sidecar = {
            "initContainers": [{"name": "p", "restartPolicy": "Always", "ports": [{"containerPort": 7, "name": "x"}]}]
        }
        assert only(pod(spec=sidecar), ports=("x",)).url == "http://10.0.0.1:7"

    def test_of_the_pod_itself(self) -> None:
        urls = [each.url for each in found(annotated(weft__ports="8001, metrics")).addresses]
        assert urls == ["http://10.0.0.1:8001", "http://10.0.0.1:9000"]

    @pytest.mark.parametrize("key", ["llm-d.ai__active-ports", "inference.networking.k8s.io__active-ports"])
    def test_only_active_ones(self, key: str) -> None:
        urls = [each.url for each in found(annotated(**{key: "8001,9999"}), ports=(8000, 8001)).addresses]
        assert urls == ["http://10.0.0.1:8001"]

    def test_none_active(self) -> None:
        assert found(annotated(**{"llm-d.ai__active-ports": ""})).addresses == ()


class TestOptions:
    def test_from_the_rules(self) -> None:
        pods = pod(metadata={"labels": {"zone": "a", "pod-template-hash": "x"}})
        address = only(pods, events="tcp://*:5557", replay="tcp://*:6557", labels=("zone", "rack"))
        assert address == ReplicaAddress(
            "http://10.0.0.1:8000", events="tcp://*:5557", replay="tcp://*:6557", labels={"zone": "a"}
        )

    def test_from_annotations_and_labels_annotations_first(self) -> None:
        labels = {"weft/ranks": "2", "weft/model": "label"}
        annotations = {"weft/events": "tcp://*:1", "weft/replay": "tcp://*:2", "weft/model": "m", "weft/role": "decode"}
        address = only(pod(metadata={"labels": labels, "annotations": annotations}), events="off")
        assert address == ReplicaAddress(
            "http://10.0.0.1:8000", events="tcp://*:1", replay="tcp://*:2", model="m", ranks=2, role=Role.DECODE
        )

    @pytest.mark.parametrize(
        ("said", "role"),
        [
            ("prefill", Role.PREFILL),
            ("decode", Role.DECODE),
            ("both", Role.BOTH),
            ("prefill-decode", Role.BOTH),
            ("encode-prefill", Role.PREFILL),
        ],
    )
    def test_roles_as_llm_d_has_them(self, said: str, role: Role) -> None:
        assert only(pod(metadata={"labels": {"llm-d.ai/role": said}})).role is role

    def test_ports_of_events_follow_the_place_of_the_port(self) -> None:
        addresses = found(pod(), ports=(8000, 8001, 8002), events="tcp://*:5557", replay="tcp://*:6557").addresses
        assert [each.events for each in addresses] == ["tcp://*:5557", "tcp://10.0.0.1:5558", "tcp://10.0.0.1:5559"]
        assert [each.replay for each in addresses] == ["tcp://*:6557", "tcp://10.0.0.1:6558", "tcp://10.0.0.1:6559"]
        assert [each.events for each in found(pod(), ports=(1, 2), events="on").addresses] == [
            "on",
            "tcp://10.0.0.1:5558",
        ]
        assert [each.events for each in found(pod(), ports=(1, 2)).addresses] == ["auto", "auto"]

    @pytest.mark.parametrize(
        ("annotations", "message"),
        [
            ({"weft__ports": "grpc"}, "no container has a port that is named 'grpc'"),
            ({"weft__ports": ""}, "no container has a port that is named ''"),
            ({"weft__ports": "0"}, "port 0; allowed: 1 to 65535"),
            ({"weft__role": "x"}, "role: 'x'; allowed: both, prefill, decode"),
            ({"weft__events": "5557"}, "use tcp://HOST:PORT or ipc://PATH; or auto, on, off"),
            ({"weft__ranks": "-1"}, "ranks: '-1'; allowed: 0 to 1024"),
            ({"llm-d.ai__role": "encode"}, "llm-d.ai/role: 'encode' gets no requests from Weft; allowed: prefill"),
            ({"llm-d.ai__active-ports": "all"}, "llm-d.ai/active-ports: 'all'; expected port numbers"),
            ({"weft__ports": "1,2", "weft__events": "ipc:///tmp/x"}, "not a KV event endpoint (of rank 1)"),
        ],
    )
    def test_what_cannot_be_used_leaves_only_that_pod_out(self, annotations: dict[str, str], message: str) -> None:
        findings = found(annotated(**annotations), pod("b", "10.0.0.2"))
        assert [each.host for each in findings.addresses] == ["10.0.0.2"]
        assert message in findings.left_out["a"]
        assert findings.wrong == {"a"}

    @given(
        st.dictionaries(
            st.sampled_from(["weft/ports", "weft/events", "weft/role", "llm-d.ai/role"]), st.text(max_size=9)
        )
    )
    def test_nothing_that_a_pod_says_stops_the_others(self, annotations: dict[str, str]) -> None:
        findings = found(pod(metadata={"annotations": annotations}), pod("b", "10.0.0.2"))
        assert "10.0.0.2" in {each.host for each in findings.addresses}


class TestPool:
    def test_version_1(self) -> None:
        spec = {
            "selector": {"matchLabels": {"tier": "gpu", "app": "vllm"}},
            "targetPorts": [{"number": 8000}, {"number": 8001}],
            "endpointPickerRef": {"name": "weft", "port": {"number": 9002}},
        }
        assert target_of(pool(spec)) == Target("app=vllm,tier=gpu", (8000, 8001))

    def test_version_1_alpha_2(self) -> None:
        spec = {"selector": {"app": "vllm"}, "targetPortNumber": 8000, "extensionRef": {"name": "weft"}}
        assert target_of(pool(spec)) == Target("app=vllm", (8000,))

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ({"targetPortNumber": 8000}, "its selector is empty"),
            ({"selector": {}, "targetPortNumber": 8000}, "its selector is empty"),
            ({"selector": {"matchLabels": {}}, "targetPorts": [{"number": 1}]}, "its selector is empty"),
            ({"selector": {"app": "vllm"}}, "no target port"),
        ],
    )
    def test_one_that_names_no_pods_is_an_error_and_not_all_pods(self, spec: dict[str, Any], message: str) -> None:
        with pytest.raises(PoolError, match=message):
            target_of(pool(spec))


def pool(spec: dict[str, Any], name: str = "p") -> InferencePool:
    return msgspec.convert({"metadata": {"name": name}, "spec": spec}, InferencePool)


class TestState:
    def test_nothing_is_said_before_both_are_known(self) -> None:
        state = KubernetesState(Wanted("ns", pool="p"), PodRules())
        assert state.findings() is None
        set_pool(state, port=8001)
        assert (state.followed, state.findings()) == ("app=vllm", None)
        set_pods(state, pod())
        assert urls(state) == ["http://10.0.0.1:8001"]

    def test_another_port_needs_no_new_list_and_another_selector_does(self) -> None:
        state = KubernetesState(Wanted("ns", pool="p"), PodRules())
        set_pool(state, port=8001)
        set_pods(state, pod())
        assert not set_pool(state, port=8002)
        assert urls(state) == ["http://10.0.0.1:8002"]
        assert set_pool(state, port=8002, app="other")
        assert (state.followed, state.findings()) == ("app=other", None)

    def test_without_its_pool_there_are_no_replicas(self) -> None:
        state = KubernetesState(Wanted("ns", pool="p"), PodRules())
        set_pool(state, port=8001)
        set_pods(state, pod())
        state.pools.objects.clear()
        assert state.retarget()
        assert (urls(state), state.followed) == ([], "")
        assert state.problem() == "no InferencePool p in namespace ns"


def set_pool(state: KubernetesState, port: int, app: str = "vllm") -> bool:
    state.pools.objects["p"] = pool({"selector": {"app": app}, "targetPortNumber": port})
    state.pools.known = True
    return state.retarget()


def set_pods(state: KubernetesState, *pods: dict[str, Any]) -> None:
    state.pods.objects = {each["metadata"]["name"]: msgspec.convert(each, Pod) for each in pods}
    state.pods.known = True


def urls(state: KubernetesState) -> list[str]:
    findings = state.findings()
    assert findings is not None
    return [each.url for each in findings.addresses]
