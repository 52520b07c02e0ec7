"""``weft sim calibrate`` as a command: what it refuses, and what it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from router.cli import cli
from sim.calibrate.calibrate import Calibration
from sim.calibrate.fit import Fit
from sim.calibrate.limits import NAMES
from sim.calibrate.observation import Kind, Observation
from sim.calibrate.profile_file import profile_yaml
from sim.calibrate.table import table
from sim.engine import EngineConfig, Frontend, StepTime, Work, load_profile


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "'nonsense' is not like http://host:8000"),
        (["ftp://host"], "not like http://host:8000"),
        (["http://host:99999"], "not like http://host:8000"),
        (["http://127.0.0.1:9", "--base", "h900"], "no engine profile 'h900'"),
        (["http://127.0.0.1:9", "--out", "/nowhere/profile.yaml"], "/nowhere is no directory"),
        ([], "Missing argument 'URL'"),
    ],
)
def test_wrong_arguments_end_with_a_message(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["sim", "calibrate", *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_a_server_that_is_not_there_ends_with_a_message(unused_tcp_port: int) -> None:
    result = CliRunner().invoke(cli, ["sim", "calibrate", f"http://127.0.0.1:{unused_tcp_port}/v1/"])
    assert result.exit_code == 1
    assert f"GET http://127.0.0.1:{unused_tcp_port}/v1/models: connection refused: is the server up" in result.output


CALIBRATION = Calibration(
    "mine",
    EngineConfig(StepTime(1_234_567_000_000, 3_500_000, 40_000, 6_000_000, 700_000), 101, 16, 512, 8, 1500,
                 frontend=Frontend(5_000_000_000, 2_000_000)),
    Fit(StepTime(1_234_567_000_000, 3_500_000, 40_000, 6_000_000, 700_000), Frontend(5_000_000_000, 2_000_000),
        [1.1, 0.09], [0.1, -0.1], 0.987),
    [
        Observation(Kind.PREFILL, "64 tokens", 1.0, 0.1, 1, Work(), 64),
        Observation(Kind.DECODE, "1 of 64 tokens", 0.1, 0.1, 1, Work()),
    ],
    dict.fromkeys(NAMES, "the server says so") | {"max_num_seqs": "base profile, not learned"},
    ["the replica was busy"],
)  # fmt: skip


def test_the_file_is_a_profile_with_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(profile_yaml(CALIBRATION), encoding="utf-8")
    profile = load_profile(str(path))
    assert (profile.name, profile.model, profile.engine) == ("mine", "mine", CALIBRATION.engine)
    assert "max_num_seqs: base profile, not learned\n" in profile.source
    assert "Warning: the replica was busy\n" in profile.source


def test_the_table_shows_the_fit_its_coefficients_and_where_each_limit_is_from() -> None:
    text = table(CALIBRATION)
    assert "prefill                  1          10.0%         +10.0%" in text
    assert "R2 of the logarithms of all times: 0.9870" in text
    assert "attention_pair            40.000 ns" in text
    assert "max_num_seqs                     8  base profile, not learned" in text
