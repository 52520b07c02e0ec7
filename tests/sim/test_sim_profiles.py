"""Engine profiles: what they may say, and that the shipped ones do not beat the hardware they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.engine import Engine, EngineConfig, Request, Work, load_profile, profile_names
from sim.engine.profile import PROFILES

DEMO = PROFILES / "laptop-demo.yaml"

PEAK_FLOPS, BANDWIDTH = 989e12, 3.35e12
"""Of one H100 SXM: dense bfloat16, HBM."""

MODELS = {
    # GPUs, parameters in matrix products, bytes of keys and values per token, tok/s of one stream, of a cold 8k prompt
    "llama-3.1-8b-1xh100": (1, 7.5e9, 131_072, 146, 30_000),
    "llama-3.1-70b-4xh100": (4, 69.5e9, 327_680, 62, 11_800),
    "qwen3-32b-2xh100": (2, 32.0e9, 262_144, 67.6, 13_600),
}


def decode_rate(config: EngineConfig, streams: int, context: int) -> float:
    """Tokens per second of so many streams that decode."""
    work = Work()
    for _ in range(streams):
        work.add(1, context)
    return streams * 1e12 / config.step_time.duration_ps(work)


def prefill_rate(config: EngineConfig, tokens: int) -> float:
    engine, elapsed_s = Engine(config), 0.0
    engine.submit(Request("a", tokens, 1), 0.0)
    while engine.has_work:
        elapsed_s += engine.step(elapsed_s).duration_s
    return tokens / elapsed_s


def test_the_promised_profiles_are_there() -> None:
    assert {"laptop-demo", *MODELS} <= set(profile_names())


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_loads_and_names_its_source(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert len(profile.source) > 100
    assert Engine(profile.engine).kv_usage == 0.0


@pytest.mark.parametrize("name", MODELS)
def test_figures_stay_within_the_roofline_and_agree_with_what_the_profile_states(name: str) -> None:
    gpus, parameters, kv_bytes, stream_rate, prompt_rate = MODELS[name]
    config, times = load_profile(name).engine, load_profile(name).engine.step_time
    assert load_profile(name).kv_bytes_per_token == kv_bytes
    assert times.fixed_ps > parameters * 2 / (gpus * BANDWIDTH) * 1e12
    assert times.prefill_token_ps > 0.9 * parameters * 2 / (gpus * PEAK_FLOPS) * 1e12
    assert times.context_token_ps > kv_bytes / (gpus * BANDWIDTH) * 1e12
    assert config.num_blocks * config.block_size_tokens * kv_bytes < gpus * 80e9
    assert decode_rate(config, 1, 1000) == pytest.approx(stream_rate, rel=0.01)
    assert prefill_rate(config, 8000) == pytest.approx(prompt_rate, rel=0.01)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(DEMO.read_text().replace("num_blocks: 2001", "num_blocks: 2000"))
    assert load_profile(str(path)).engine.num_blocks == 2000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected"),
        ("model: x", "Field required"),
        ("speed: 1", "Extra inputs"),
        ("num_blocks: 3", "does not fit"),
        ("num_blocks: many", "valid integer"),
    ],
)
def test_what_is_wrong_with_a_profile_is_said_with_its_path(tmp_path: Path, text: str, message: str) -> None:
    good = DEMO.read_text()
    path = tmp_path / "bad.yaml"
    key = text.partition(":")[0]
    kept = [line for line in good.splitlines() if not line.startswith(key)]
    path.write_text(text if key in ("{", "model") else "\n".join([*kept, text]))
    with pytest.raises(ValueError, match=message) as error:
        load_profile(str(path))
    assert str(path) in str(error.value)


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="laptop-demo"):
        load_profile("h900")
