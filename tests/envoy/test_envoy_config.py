"""`weft envoy-config`, and whether Envoy accepts what it prints."""

import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from router.app import App
from router.cli import cli, main
from router.config import parse_config
from router.core.fleet import Fleet as Replicas
from router.core.types import Health, ReplicaSpec
from router.envoy.endpoints import places_of
from router.envoy.places import Place, place_of
from router.envoy.process import EnvoyMissingError, find_envoy
from router.envoy.settings import EnvoySettings
from router.errors import ApiError


def printed(*options):
    done = CliRunner().invoke(cli, ["envoy-config", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def resources(*options):
    return yaml.safe_load(printed(*options))["static_resources"]


def cluster(name, *options):
    return next(each for each in resources(*options)["clusters"] if each["name"] == name)


def manager(*options):
    (listener,) = resources(*options)["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def ext_proc(*options):
    return manager(*options)["http_filters"][0]["typed_config"]


def to_replicas(*options):
    return manager(*options)["route_config"]["virtual_hosts"][0]["routes"][-1]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--replica", "http://127.0.0.1:8000", "--replica", "http://host.example:8000", "--fail-open"),
        ("--weft", "127.0.0.1:8080", "--admin", "127.0.0.1:9901"),
        ("--body", "duplex", "--no-access-log", "--extproc", "weft.example:9002"),
        ("--replica", "https://[::1]:8443", "--listen", "[::]:443", "--extproc", "unix:/run/weft.sock"),
    ],
    ids=["defaults", "replicas", "local paths", "duplex", "IPv6 and TLS replicas"],
)
def test_envoy_accepts_it(envoy_binary, tmp_path, options):
    assert validated(envoy_binary, tmp_path, printed(*options)) == ""


def test_envoy_accepts_it_with_tls_on_both_sides(envoy_binary, tmp_path, certificate):
    public, private = map(str, certificate)
    options = ["--tls-cert", public, "--tls-key", private, "--tls-client-ca", public]
    options += ["--extproc-ca", public, "--extproc-name", "weft", "--extproc-cert", public, "--extproc-key", private]
    assert validated(envoy_binary, tmp_path, printed(*options)) == ""


def validated(binary, directory, text):
    """What Envoy has to say against a configuration."""
    path = directory / "envoy.yaml"
    path.write_text(text)
    command = [str(binary), "--mode", "validate", "-c", str(path), "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr + done.stdout


def test_without_replicas_envoy_goes_where_weft_says():
    assert cluster("replicas")["type"] == "ORIGINAL_DST"
    assert "retry_policy" not in to_replicas()["route"], "it would ask the same replica again"


def test_with_replicas_envoy_tries_what_weft_named_next():
    options = ("--replica", "http://10.0.0.1:8000", "--replica", "http://10.0.0.2:8000")
    (policy,) = cluster("replicas", *options)["load_balancing_policy"]["policies"]
    assert policy["typed_extension_config"]["name"] == "envoy.load_balancing_policies.override_host"
    assert to_replicas(*options)["route"]["retry_policy"]["num_retries"] == 2, "three tries, as the proxy makes"


def test_replicas_of_the_configuration_file_are_known_only_if_no_others_can_come(tmp_path):
    path = tmp_path / "weft.yaml"
    path.write_text("replicas: [http://10.0.0.1:8000]\n")
    assert cluster("replicas", "-c", str(path))["type"] == "STATIC"
    assert cluster("replicas", "-c", str(path), "--original-dst")["type"] == "ORIGINAL_DST"
    path.write_text("replicas: [http://10.0.0.1:8000]\ndns: [{name: replicas.example}]\n")
    assert cluster("replicas", "-c", str(path))["type"] == "ORIGINAL_DST"


def test_weft_sees_no_part_of_an_answer():
    modes = ext_proc()["processing_mode"]
    assert (modes["response_header_mode"], modes["response_body_mode"]) == ("SKIP", "NONE")
    assert modes["request_body_mode"] == "BUFFERED"


def test_times_and_limits_are_those_of_wefts_configuration(tmp_path):
    path = tmp_path / "weft.yaml"
    path.write_text("queue: {max_wait_s: 1200}\nlimits: {max_body_bytes: 1000000, connect_timeout_s: 1.5}\n")
    assert ext_proc("-c", str(path))["message_timeout"] == "1230s"
    route = to_replicas("-c", str(path))
    assert route["request_body_buffer_limit"] == 1_000_000
    assert (route["route"]["timeout"], route["route"]["idle_timeout"]) == ("0s", "1260s")
    assert cluster("replicas", "-c", str(path))["connect_timeout"] == "1.5s"


def test_a_request_may_be_held_for_as_long_as_envoy_lets_it(tmp_path):
    path = tmp_path / "weft.yaml"
    path.write_text("queue: {max_wait_s: null}\n")
    assert ext_proc("-c", str(path))["message_timeout"] == "3600s"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--fail-open"], "only where Envoy knows the replicas"),
        (["--tls-cert", "a.pem"], "--tls-cert and --tls-key belong together"),
        (["--listen", "weft.example:80"], "on an IP address"),
        (["--extproc", "nowhere"], "must look like"),
        (["--replica", "http://10.0.0.1:8000/deep"], "without a path"),
    ],
)
def test_what_cannot_be_ends_with_a_message_and_status_2(options, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["envoy-config", *options])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


async def test_the_paths_that_weft_answers_itself_are_those_of_the_router():
    config = {"listen": "127.0.0.1:0", "replicas": ["http://127.0.0.1:1"], "models": {"*": {"tokenizer": "text"}}}
    settings = EnvoySettings(listen="127.0.0.1:0", extproc="127.0.0.1:1")
    async with App(parse_config(config, "test")) as app:
        assert {path for _, path in app.proxy.local_routes} == set(settings.local_paths)
        assert set(app.proxy.local_trees) == set(settings.local_trees)


async def test_endpoints_follow_the_fleet():
    fleet = Replicas()
    for name, url in (("a", "http://10.0.0.1:8000"), ("b#0", "http://10.0.0.2:80"), ("b#1", "http://10.0.0.2:80")):
        fleet.put(ReplicaSpec(name, url))
    fleet.put(ReplicaSpec("c", "https://replica.example"))
    fleet.put(ReplicaSpec("d", "http://nowhere.example:8000"))
    fleet.set_health("b#1", Health.HEALTHY)
    found = {"http://10.0.0.1:8000": "10.0.0.1:8000", "http://10.0.0.2:80": "10.0.0.2:80"}
    found["https://replica.example"] = "10.0.0.3:443"

    async def find(spec):
        if spec.url not in found:
            raise ApiError(503, "nobody knows that name")
        return found[spec.url]

    assert await places_of(fleet, find) == [
        Place("10.0.0.1:8000", "", Health.STARTING),
        Place("10.0.0.2:80", "", Health.HEALTHY),
        Place("10.0.0.3:443", "replica.example", Health.STARTING),
    ]


def test_a_place_has_the_port_of_its_scheme():
    assert place_of("http://[fd00::1]") == Place("[fd00::1]:80")
    assert place_of("https://replica.example") == Place("replica.example:443", "replica.example")


def test_a_missing_envoy_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("router.envoy.process.PACKAGE", "no-such-package")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvoyMissingError, match=r"pip install 'weft\[envoy\]'"):
        find_envoy()
    own = tmp_path / "envoy"
    own.write_text("")
    own.chmod(0o755)
    assert find_envoy() == Path(own)
