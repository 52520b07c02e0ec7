"""What may stand in weft.yaml, and what an error in it says: file, key, what is wrong, what is allowed."""

import pytest

from router.config import ConfigError, load_config, parse_config
from router.profiles import make_profiles, shipped_profiles


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
