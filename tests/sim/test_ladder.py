"""llm-d's published ladder, shortened: who is ahead of whom, and the benchmark's own way of sending it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import ladder
from sim.engine import load_profile

SHORT = replace(ladder.Setup(), steps=((15.0, 50.0), (20.0, 38.0), (60.0, 25.0))).scaled_down(5)


@pytest.fixture(scope="module")
def rungs() -> dict[str, list[ladder.Rung]]:
    published = (each for each in ladder.CONTESTANTS.values() if each.output_tokens_per_s)
    return {each.policy.name: ladder.climb(each.policy, SHORT) for each in published}


def test_the_order_is_that_of_the_published_run(rungs: dict[str, list[ladder.Rung]]) -> None:
    """Random and load-only are within 4 % of each other there, and change places from rung to rung."""
    tokens_per_s = {name: ladder.mean(climbed, "output_tokens_per_s") for name, climbed in rungs.items()}
    ttft_p90_s = {name: ladder.mean(climbed, "ttft_p90_s") for name, climbed in rungs.items()}
    for blind in ("random", "llm-d-load"):
        assert tokens_per_s["llm-d"] > tokens_per_s["llm-d-approximate"] > tokens_per_s[blind]
        assert ttft_p90_s["llm-d"] < ttft_p90_s["llm-d-approximate"] < ttft_p90_s[blind]


def test_only_the_policy_that_knows_the_caches_answers_at_once_up_the_ladder(
    rungs: dict[str, list[ladder.Rung]],
) -> None:
    assert all(rung.ttft_p90_s < 1 for rung in rungs["llm-d"])
    assert all(climbed[-1].ttft_p90_s > 2 for name, climbed in rungs.items() if name != "llm-d")


def test_the_warm_up_does_not_count(rungs: dict[str, list[ladder.Rung]]) -> None:
    assert [rung.rate_per_s for rung in rungs["random"]] == [4.0, 12.0]


def test_equal_seeds_climb_alike(rungs: dict[str, list[ladder.Rung]]) -> None:
    random = ladder.CONTESTANTS["random"].policy
    assert ladder.climb(random, SHORT) == rungs["random"]
    assert ladder.climb(random, SHORT, seed=1) != rungs["random"]


def test_the_memory_is_the_published_one_whatever_the_block_size() -> None:
    published, slowed = ladder.Setup().engine, replace(ladder.Setup(), decode_time=2.0).engine
    shipped = load_profile(ladder.PROFILE).engine
    tokens = [engine.usable_blocks * engine.block_size_tokens for engine in (published, shipped)]
    assert tokens == [307_328, 307_328]
    assert published.step_time == shipped.step_time
    assert slowed.step_time.fixed_ps == 2 * shipped.step_time.fixed_ps
    assert slowed.step_time.prefill_token_ps == shipped.step_time.prefill_token_ps


def test_an_unknown_policy_ends_with_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ladder.py", "--policies", "best"])
    with pytest.raises(SystemExit) as stopped:
        ladder.main()
    assert stopped.value.code == 2
    assert "no policy best: there are llm-d, " in capsys.readouterr().err
