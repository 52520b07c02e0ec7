"""What may stand in weft.yaml, and what an error in it says: file, key, what is wrong, what is allowed."""

import pytest

from router.config import ConfigError, load_config, parse_config
from router.core.flow import QueueLimits
from router.hints.settings import IdentitySettings
from router.profiles import make_profiles, shipped_profiles
from router.queueing import identity_settings, make_flow


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "weft.yaml"
        path.write_text(text)
        return load_config(path)

    return load


def test_an_empty_file_is_all_defaults(load):
    assert load("") == load("{}")
    assert load("").limits.max_body_bytes == 64 * 1024 * 1024


def test_a_full_file(load):
    config = load(
        """
        listen: 0.0.0.0:9000
        replicas: ["http://a:8000", "http://b:8000,events=tcp://b:5557"]
        models:
          llama: {tokenizer: local, path: /models/llama}
          "*": {tokenizer: text}
        profiles:
          mine:
            scorers: [{name: prefix-cache, weight: 2, parameters: {cpu_weight: 0.5}}, {name: queue-depth}]
            picker: power-of-two
        default_profile: mine
        limits: {max_tries: 2}
        """
    )
    profiles = make_profiles(config.profiles, config.default_profile)
    assert profiles["default"] is profiles["mine"]
    assert [(each.scorer.name, each.weight) for each in profiles["mine"].scorers] == [
        ("prefix-cache", 2),
        ("queue-depth", 1),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listne: x", ["weft.yaml", "listne", "unknown key", "listen"]),
        ("limits: {max_trys: 1}", ["limits.max_trys", "unknown key", "max_tries"]),
        ("limits: {max_tries: -1}", ["limits", "max_tries is -1", "0 or more"]),
        ("limits: {max_tries: many}", ["limits.max_tries", "integer"]),
        ("router: {predicted_ttl: 5}", ["router.predicted_ttl", "unknown key", "predicted_ttl_s"]),
        ("profiles: {p: {scorer: []}}", ["profiles.p.scorer", "unknown key", "scorers"]),
        ("profiles: {p: {scorers: [{nmae: x}]}}", ["profiles.p.scorers.0", "nmae", "name"]),
        ("models: {m: {tokenizer: tiktoken}}", ["models.m.tokenizer", "'local'"]),
        ("- a", ["mapping"]),
        ("a: [", ["not valid YAML"]),
        ("replicas: http://a", ["replicas", "list"]),
        ("queue: {ordre: las}", ["queue.ordre", "unknown key", "order"]),
        ("queue: {order: {nmae: las}}", ["queue.order", "nmae", "name, parameters"]),
        ("queue: {order: [las]}", ["queue.order"]),
        ("queue: {max_waiting: -1}", ["queue.max_waiting", "greater than or equal to 0"]),
        ("queue: {max_wait_s: 0}", ["queue.max_wait_s", "greater than 0"]),
        ("identity: {tenant_headr: x}", ["identity.tenant_headr", "unknown key", "tenant_header"]),
        ("identity: {tenant_header: 'x y'}", ["identity.tenant_header", "'x y'", "letters, digits"]),
        ("identity: {program_headers: ['a:b']}", ["identity.program_headers.0", "'a:b'"]),
        ("identity: {max_priority: -1}", ["identity.max_priority", "greater than or equal to 0"]),
        ("tenants: {a: {wieght: 1}}", ["tenants.a.wieght", "unknown key", "weight"]),
        ("tenants: {a: {weight: 0}}", ["tenants.a.weight", "greater than 0"]),
    ],
)
def test_errors_name_the_key_and_what_is_allowed(load, text, said):
    with pytest.raises(ConfigError) as error:
        load(text)
    assert all(word in str(error.value) for word in said), str(error.value)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        load_config(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"picker": "best"}, "max-score"),
        ({"filters": ["alive"]}, "healthy"),
        ({"scorers": [{"name": "prefix"}]}, "prefix-cache"),
    ],
)
def test_unknown_plug_ins_are_named_with_what_there_is(profile, said):
    config = parse_config({"profiles": {"p": profile}}, "weft.yaml")
    with pytest.raises(ConfigError, match=said) as error:
        make_profiles(config.profiles)
    assert "profiles.p" in str(error.value)


def test_an_unknown_default_profile_is_an_error():
    with pytest.raises(ConfigError, match="least-load"):
        make_profiles({}, "fastest")


def test_every_shipped_profile_can_be_made():
    assert {"default", "least-load", "round-robin"} <= set(make_profiles({}))
    assert shipped_profiles().keys() <= make_profiles({}).keys()


def test_nothing_waits_unless_it_is_asked_for():
    flow = make_flow(parse_config({}, "weft.yaml"))
    assert (flow.order.name, flow.gate, flow.admission) == ("fcfs", None, None)


def test_a_queue_as_a_file_has_it(load):
    config = load(
        """
        queue:
          order: {name: las, parameters: {half_life_s: 30}}
          gate: step-budget
          admission: {name: thunder-agent, parameters: {tick_s: 2}}
          max_waiting: 100
          max_waiting_per_tenant: 10
          max_wait_s: 60
        identity: {tenant_header: X-Tenant, tenant_from_key: false, program_headers: [X-Run], max_priority: 2}
        tenants:
          gold: {max_priority: 9, max_waiting: 50}
          tin: {max_waiting: 0}
        """
    )
    flow = make_flow(config)
    assert (flow.order.name, flow.gate.name, flow.admission.name) == ("las", "step-budget", "thunder-agent")
    assert flow.limits == QueueLimits(100, 10, {"gold": 50, "tin": 0}, 60.0)
    assert identity_settings(config) == IdentitySettings("x-tenant", False, ("x-run",), 2, {"gold": 9})


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({}, ("fcfs", None, None)),
        ({"programs": {"enabled": True}}, ("critical-path", "step-budget", "working-set")),
        ({"programs": {"enabled": True}, "queue": {"admission": "none"}}, ("critical-path", "step-budget", None)),
    ],
)
def test_who_follows_programs_gets_the_parts_that_schedule_them(content, parts):
    flow = make_flow(parse_config(content, "weft.yaml"))
    assert (flow.order.name, *(part and part.name for part in (flow.gate, flow.admission))) == parts


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"queue": {"order": "fastest"}}, ["queue.order", "fcfs, las"]),
        ({"queue": {"gate": "open"}}, ["queue.gate", "none, all-busy, step-budget"]),
        ({"queue": {"gate": {"name": "step-budget", "parameters": {"step": 1}}}}, ["queue.gate", "'step'", "steps"]),
        ({"queue": {"admission": "all"}}, ["queue.admission", "none, thunder-agent"]),
        ({"tenants": {"a": {"weight": 2}}}, ["queue.order", "fcfs", "tenants.*.weight"]),
    ],
)
def test_parts_of_the_queue_that_cannot_be_made_are_named_with_what_there_is(content, said):
    with pytest.raises(ConfigError) as error:
        make_flow(parse_config(content, "weft.yaml"))
    assert all(words in str(error.value) for words in ["weft.yaml: ", *said]), str(error.value)
